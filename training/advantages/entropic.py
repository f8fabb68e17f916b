"""The entropic objective: the best of a group counts far more than the rest."""

from collections.abc import Sequence
from math import exp, log

from ..objectives import Entropic, Scale
from .checks import check_finite
from .group import group_relative

_DEFAULT = Entropic()


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
    check_finite(rewards)
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


def _tie(gap: float, resolution: float) -> float:
    return 0.0 if -gap <= resolution else gap
