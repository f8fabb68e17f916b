"""REINFORCE with one baseline for all rollouts of a job."""

from collections.abc import Sequence
from math import sqrt

from .checks import check_finite


def reinforce(rewards: Sequence[float], whiten: bool = True, resolution: float = 1e-6) -> list[float]:
    """Each reward minus the mean over all rollouts, divided by their standard deviation.

    ``A_i = R_i - b`` with a constant baseline b (Williams 1992, "Simple statistical gradient-following algorithms",
    section 4), here the mean; whitened over the whole job rather than over a group, as REINFORCE++ does (Hu 2025,
    arXiv 2501.03262), which needs no second rollout on an item. The penalty for leaving the base is in the loss
    (`loss`, the KL term), not in the reward.

    Args:
        rewards: of all rollouts of a job, in any unit.
        whiten: divide by the population's standard deviation.
        resolution: rewards of a smaller range have nothing to say and get zeros.

    Raises:
        ConfigurationError: a reward is NaN or infinite.
    """
    check_finite(rewards)
    if len(rewards) < 2 or max(rewards) - min(rewards) <= resolution:
        return [0.0] * len(rewards)
    mean = sum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    deviation = sqrt(sum(x * x for x in centred) / len(centred)) if whiten else 1.0
    return [x / deviation for x in centred] if deviation > 0 else [0.0] * len(rewards)
