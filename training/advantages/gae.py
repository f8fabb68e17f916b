"""Generalised advantage estimation: from rewards and values along one rollout to advantages and returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from ...core import ConfigurationError
from .checks import check_finite


@dataclass(frozen=True)
class Estimate:
    """One number a decision, in the rewards' unit."""

    advantages: list[float]
    returns: list[float]
    """Advantage plus value: what the value head learns."""


def gae(rewards: Sequence[float], values: Sequence[float], gamma: float = 1.0, lam: float = 0.95) -> Estimate:
    """Advantages of one rollout's T decisions.

    ``A_t = sum_l (gamma lam)^l delta_{t+l}`` with ``delta_t = r_t + gamma V(s_{t+1}) - V(s_t)`` (Schulman et al. 2015,
    arXiv 1506.02438, equation 16; PPO, arXiv 1707.06347, equations 11 and 12). The rollout ends after its last
    decision, so the value after it is 0.

    Args:
        rewards: (T,) what each decision brought, in any unit.
        values: (T,) of the states that the decisions were made in, in the same unit.
        gamma: discount a decision.
        lam: 1 gives the discounted return minus the value, 0 one step's error.

    Raises:
        ConfigurationError: the lists differ in length, or hold NaN or infinity.
    """
    check_finite(rewards)
    check_finite(values, "values")
    if len(rewards) != len(values):
        raise ConfigurationError(f"{len(rewards)} rewards and {len(values)} values: expected one of each a decision.")
    advantages = [0.0] * len(rewards)
    following, ahead = 0.0, 0.0
    for t in reversed(range(len(rewards))):
        ahead = rewards[t] + gamma * following - values[t] + gamma * lam * ahead
        advantages[t], following = ahead, values[t]
    return Estimate(advantages, [a + v for a, v in zip(advantages, values, strict=True)])


def whiten(advantages: Sequence[float], weights: Sequence[float] | None = None, floor: float = 1e-8) -> list[float]:
    """Advantages with mean 0 and deviation 1 over all of them.

    Not in PPO's paper, but in its authors' code (openai/baselines, ppo2) and in what followed it. Where they are all
    alike within `floor` they become 0.

    Args:
        advantages: of all decisions of a job.
        weights: of each in mean and deviation; by default equal.
        floor: least deviation that is divided by.

    Raises:
        ConfigurationError: one is NaN or infinite.
    """
    check_finite(advantages, "advantages")
    shares = [1.0] * len(advantages) if weights is None else list(weights)
    total = sum(shares)
    if total <= 0:
        return [0.0] * len(advantages)
    mean = sum(a * w for a, w in zip(advantages, shares, strict=True)) / total
    deviation = sqrt(sum(w * (a - mean) ** 2 for a, w in zip(advantages, shares, strict=True)) / total)
    return [(a - mean) / deviation if deviation > floor else 0.0 for a in advantages]
