"""From rewards of a group of rollouts to advantages: pure functions on lists of floats.

A group is what was compared: rollouts on the same item. More reward is better; turn the sign of a metric that is
minimised before. Every function returns one advantage a reward, in the same order.
"""

from collections.abc import Mapping, Sequence
from math import exp, isfinite, log, sqrt

from ..core import ConfigurationError
from .objectives import Entropic, Objective, Scale

_DEFAULT = Entropic()


def group_relative(rewards: Sequence[float], scale: Scale = Scale.STD, resolution: float = 1e-6) -> list[float]:
    """Group-relative advantages.

    ``A_i = (R_i - mean R) / std R`` (GRPO, Shao et al. 2024, arXiv 2402.03300, section 4.1.2), or without the
    division (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783, section 3.2). `std` is the population's.

    Args:
        rewards: of one group, in any unit.
        scale: divide by the group's standard deviation, or don't.
        resolution: a group with a smaller range has nothing to say and gets zeros.

    Raises:
        ConfigurationError: a reward is NaN or infinite.
    """
    _check(rewards)
    if len(rewards) < 2 or max(rewards) - min(rewards) <= resolution:
        return [0.0] * len(rewards)
    mean = sum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if scale is Scale.NONE:
        return centred
    deviation = sqrt(sum(x * x for x in centred) / len(centred))
    return [x / deviation for x in centred]


def entropic(rewards: Sequence[float], settings: Entropic = _DEFAULT) -> list[float]:
    """Leave-one-out advantages of the entropic objective ``J = log E[exp(beta R)]``, with adaptive beta.

    ``A_i = e_i / Z_i - 1`` with ``e_i = exp(beta (R_i - max R))`` and ``Z_i`` the mean of the other ``e_j``;
    beta solves ``KL(q || uniform) = delta`` for ``q_i`` proportional to ``exp(beta R_i)`` (TTT-Discover,
    arXiv 2601.16175, the entropic objective and its adaptive beta).

    The published estimator has three defects, guarded here: with fewer than four rewards beta runs away, so the
    group falls back to `group_relative`; m tied winners of K bound the KL by ``log(K/m)``, so
    ``delta = min(kl, 0.9 log(K/m))``; and it is invariant to the rewards' scale, so rewards within `resolution`
    of the best are made equal to it and beta is capped. Advantages are clipped at `clip`; like the published
    ones they don't sum to zero.

    Raises:
        ConfigurationError: a reward is NaN or infinite.
    """
    _check(rewards)
    if len(rewards) < 4:
        return group_relative(rewards, Scale.STD, settings.resolution)
    best = max(rewards)
    gaps = [_tie(reward - best, settings.resolution) for reward in rewards]  # 0 for a winner, negative for the rest
    winners = sum(gap == 0.0 for gap in gaps)
    if winners == len(gaps):
        return [0.0] * len(gaps)
    beta = solve_beta(gaps, min(settings.kl, 0.9 * log(len(gaps) / winners)), settings.beta_max)
    tilted = [exp(beta * gap) for gap in gaps]
    total = sum(tilted)
    # A lone winner whose rivals underflow would divide by zero; the clip answers for it.
    floor = (len(gaps) - 1) * 1e-12
    return [min(settings.clip, value * (len(gaps) - 1) / max(total - value, floor) - 1.0) for value in tilted]


def solve_beta(gaps: Sequence[float], delta: float, beta_max: float) -> float:
    """The beta in ``(0, beta_max]`` at which the tilted distribution is `delta` nats from uniform, by bisection.

    Args:
        gaps: rewards minus the largest of them: none positive, at least one zero.
        delta: target KL in nats, below ``log(K / number of zeros)``.
        beta_max: the answer where the target lies beyond it.
    """
    low, high = 0.0, 1.0
    while high < beta_max and tilt_kl(gaps, high) < delta:
        low, high = high, min(2 * high, beta_max)
    if tilt_kl(gaps, high) < delta:
        return beta_max
    for _ in range(60):
        middle = (low + high) / 2
        if tilt_kl(gaps, middle) < delta:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def tilt_kl(gaps: Sequence[float], beta: float) -> float:
    """``KL(q || uniform)`` in nats for ``q_i`` proportional to ``exp(beta gap_i)``."""
    tilted = [exp(beta * gap) for gap in gaps]
    total = sum(tilted)
    mean_gap = sum(value * gap for value, gap in zip(tilted, gaps, strict=True)) / total
    return beta * mean_gap - log(total) + log(len(gaps))


def advantages(
    groups: Mapping[str, Sequence[float]], objective: Objective, entropic_settings: Entropic = _DEFAULT
) -> dict[str, list[float]]:
    """Advantages of every group under one objective.

    Args:
        groups: group id to the rewards of its rollouts.
        objective: which function turns them into advantages.
        entropic_settings: guards of the entropic objective.

    Raises:
        ConfigurationError: a reward is NaN or infinite.
    """
    if objective is Objective.ENTROPIC:
        return {group: entropic(rewards, entropic_settings) for group, rewards in groups.items()}
    return {group: group_relative(rewards) for group, rewards in groups.items()}


def _tie(gap: float, resolution: float) -> float:
    return 0.0 if -gap <= resolution else gap


def _check(rewards: Sequence[float]) -> None:
    bad = [reward for reward in rewards if not isfinite(reward)]
    if bad:
        raise ConfigurationError(
            f"{len(bad)} of {len(rewards)} rewards are {bad[0]}: expected finite numbers. "
            "Give a rollout without a valid output the task's worst grade, never none."
        )
