"""What every function of this package asks of its input."""

from collections.abc import Sequence
from math import isfinite

from ...core import ConfigurationError

LARGEST = 1e100
"""Of what is averaged and squared: beyond it a sum or a variance would overflow to infinity."""


def is_usable(value: float) -> bool:
    """Whether a reward, a value or an advantage is a finite number that can be calculated with."""
    return isfinite(value) and abs(value) <= LARGEST


def check_finite(rewards: Sequence[float], what: str = "rewards") -> None:
    """Refuse numbers that can't be calculated with.

    Raises:
        ConfigurationError: one is NaN, infinite or beyond `LARGEST`.
    """
    bad = [reward for reward in rewards if not is_usable(reward)]
    if bad:
        raise ConfigurationError(
            f"{len(bad)} of {len(rewards)} {what} are {bad[0]}: expected finite numbers, {LARGEST:g} at most. "
            "Give a rollout without a valid output the task's worst grade, never none."
        )
