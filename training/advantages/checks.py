"""What every function of this package asks of its input."""

from collections.abc import Sequence
from math import isfinite

from ...core import ConfigurationError


def check_finite(rewards: Sequence[float], what: str = "rewards") -> None:
    """Refuse numbers that are not finite.

    Raises:
        ConfigurationError: one is NaN or infinite.
    """
    bad = [reward for reward in rewards if not isfinite(reward)]
    if bad:
        raise ConfigurationError(
            f"{len(bad)} of {len(rewards)} {what} are {bad[0]}: expected finite numbers. "
            "Give a rollout without a valid output the task's worst grade, never none."
        )
