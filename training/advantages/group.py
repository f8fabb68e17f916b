"""Advantages relative to a group: a reward counts by how far it is from those that it was compared with.

The members of this family differ in what is taken away, in what it is divided by, and in how the loss adds tokens up
(`objectives.Aggregation`):

| method   | baseline       | scale | tokens   | clip         |
| GRPO     | mean           | std   | sequence | symmetric    |
| Dr. GRPO | mean           | none  | constant | symmetric    |
| DAPO     | mean           | std   | token    | higher above |
| RLOO     | mean of others | none  | constant | none         |

`presets` has them as settings; RLOO's keeps a clip, since a job takes several steps on the same rollouts.
"""

from collections.abc import Sequence
from math import sqrt

from ..objectives import Baseline, Scale
from .checks import check_finite


def group_relative(
    rewards: Sequence[float],
    scale: Scale = Scale.STD,
    resolution: float = 1e-6,
    baseline: Baseline = Baseline.MEAN,
) -> list[float]:
    """Group-relative advantages.

    ``A_i = (R_i - mean R) / std R`` (GRPO, Shao et al. 2024, arXiv 2402.03300, section 4.1.2; DAPO, Yu et al. 2025,
    arXiv 2503.14476, equation 9), or without the division (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783, section 3.2).
    `std` is the population's. With `Baseline.LEAVE_ONE_OUT` the mean is that of the others (`leave_one_out`).

    Args:
        rewards: of one group, in any unit.
        scale: divide by the group's standard deviation, or don't.
        resolution: a group with a smaller range has nothing to say and gets zeros (DAPO's constraint of dynamic
            sampling, equation 11, with no second sample).
        baseline: what is taken from a reward.

    Raises:
        ConfigurationError: a reward is NaN or infinite.
    """
    check_finite(rewards)
    if len(rewards) < 2 or max(rewards) - min(rewards) <= resolution:
        return [0.0] * len(rewards)
    mean = sum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    divisor = 1.0 if scale is Scale.NONE else sqrt(sum(x * x for x in centred) / len(centred))
    if baseline is Baseline.LEAVE_ONE_OUT:
        centred = leave_one_out(rewards)
    return [x / divisor for x in centred] if divisor > 0 else [0.0] * len(rewards)


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """Each reward minus the mean of the others.

    ``A_i = R_i - 1/(K-1) sum_{j != i} R_j = K/(K-1) (R_i - mean R)`` (RLOO, Ahmadian et al. 2024, arXiv 2402.14740,
    section 2.2, after Kool et al. 2019). The baseline doesn't depend on the rollout that it judges, so the gradient is
    unbiased.

    Args:
        rewards: of one group; a lone one gets 0.

    Raises:
        ConfigurationError: a reward is NaN or infinite.
    """
    check_finite(rewards)
    if len(rewards) < 2:
        return [0.0] * len(rewards)
    mean = sum(rewards) / len(rewards)
    return [(reward - mean) * len(rewards) / (len(rewards) - 1) for reward in rewards]
