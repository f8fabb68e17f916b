"""What rollouts show of their rewards, as far as the choice of an objective asks: pure, the same in any order.

    signals = observe([Attempt(group="item-1", reward=0.2), Attempt(group="item-1", reward=0.9)])

More reward is better; turn the sign of a metric that is minimised before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import fsum, isfinite, sqrt
from statistics import fmean, median

from pydantic import BaseModel, ConfigDict

DEEP = 4
"""Rollouts of a group from which on the entropic estimator is used (below, its beta runs away)."""
RANKED = 3
"""Rollouts of a group from which on equal, evenly spaced sets of rewards can't be scores."""


@dataclass(frozen=True)
class Attempt:
    """One rollout, as far as its objective is concerned."""

    group: str
    """What it is compared within: attempts at one item share it."""
    reward: float
    """Of the whole rollout, in the task's unit."""
    steps: int = 1
    """Answers of the policy in it."""
    step_rewards: Sequence[float] = ()
    """What single steps brought, in the same unit; 0 is none of its own."""
    recorded: bool = True
    """Whether the tokens that the policy drew are known."""
    logprobs: bool = True
    """Whether their log-probabilities under the policy that drew them are known too."""
    cost: float = 0.0
    """In thousands of tokens; a verification counts as one."""


class Signals(BaseModel):
    """Figures of one set of rollouts."""

    model_config = ConfigDict(frozen=True)

    rollouts: int
    """With a finite reward; all else is of those."""
    dropped: int
    """Without one."""
    groups: int
    group_size: float
    """Median rollouts of a group."""
    logprobs: float
    """Share of the rollouts with tokens and log-probabilities."""
    differ: bool
    """Whether rewards of rollouts with log-probabilities differ by more than the resolution."""
    varied: int
    """Groups in which rollouts with log-probabilities differ in reward by more than the resolution."""
    deep: int
    """Those of `DEEP` rollouts with log-probabilities, or more."""
    imitable: bool
    """Whether a rollout with tokens beats another of its group by more than the resolution."""
    pairable: bool
    """Whether two rollouts with tokens, of one group, differ by more than the resolution."""
    spread: float
    """Highest reward less the lowest."""
    deviation: float
    """Pooled standard deviation within groups."""
    skewness: float
    """Of the rewards within groups, pooled; positive where a few are far better than the rest."""
    successes: float
    """Share of rewards above the floor by more than the resolution."""
    least_success: float | None
    """The lowest reward of a success with tokens."""
    most_successes: int
    """Of one group."""
    levels: int
    """Rewards that differ by more than the resolution from the next lower one."""
    ordinal: bool
    """Whether the metric is declared to rank, not to measure."""
    ranked: bool
    """Whether rewards look like ranks: the same evenly spaced ones, each once, in every group."""
    steps: int
    """Answers of the policy, in rollouts with log-probabilities."""
    rewarded_steps: int
    """Those that have a reward of their own."""
    steps_differ: bool
    """Whether such rewards differ by more than the resolution."""
    cost: float
    """Mean cost of a rollout, in thousands of tokens or verifications."""
    resolution: float
    """Rewards nearer than this are ties, in their unit."""
    at_risk: bool
    """Whether capabilities outside the task may regress, and count."""

    @property
    def density(self) -> float:
        """Share of steps with a reward of their own."""
        return self.rewarded_steps / self.steps if self.steps else 0.0


def observe(
    attempts: Iterable[Attempt],
    *,
    floor: float | None = None,
    resolution: float | None = None,
    ordinal: bool = False,
    at_risk: bool = False,
) -> Signals:
    """Put together what rollouts show.

    Args:
        attempts: the rollouts; one whose reward is NaN or infinite is left out and counted.
        floor: reward of a rollout that achieved nothing; by default the lowest that is seen.
        resolution: rewards nearer than this are ties; by default a thousandth of their spread.
        ordinal: whether the metric ranks without measuring.
        at_risk: whether capabilities outside the task may regress, and count.
    """
    given = list(attempts)
    scored = sorted((one for one in given if isfinite(one.reward)), key=lambda one: (one.group, one.reward))
    rewards = [one.reward for one in scored]
    spread = max(rewards) - min(rewards) if rewards else 0.0
    fine = 1e-3 * spread if resolution is None else resolution
    bottom = floor if floor is not None else min(rewards, default=0.0)
    groups = _grouped(scored)
    by_group = [[one.reward for one in members] for members in groups.values()]
    drawn = [one for one in scored if one.recorded and one.logprobs]
    varied = [group for group in _grouped(drawn).values() if _differ([one.reward for one in group], fine)]
    pairable = any(
        _differ([one.reward for one in group], fine) for group in _grouped([o for o in scored if o.recorded]).values()
    )
    won = [one for one in scored if one.reward - bottom > fine]
    own = [[reward for reward in one.step_rewards if isfinite(reward) and reward != 0.0] for one in drawn]
    return Signals(
        rollouts=len(scored),
        dropped=len(given) - len(scored),
        groups=len(groups),
        group_size=float(median(map(len, by_group))) if by_group else 0.0,
        logprobs=len(drawn) / len(scored) if scored else 0.0,
        differ=_differ([one.reward for one in drawn], fine),
        varied=len(varied),
        deep=sum(1 for group in varied if len(group) >= DEEP),
        imitable=any(_beats(members, fine) for members in groups.values()),
        pairable=pairable,
        spread=spread,
        deviation=_deviation(by_group, spread),
        skewness=_skewness(by_group, spread),
        successes=len(won) / len(scored) if scored else 0.0,
        least_success=min((one.reward for one in won if one.recorded), default=None),
        most_successes=max((len(group) for group in _grouped(won).values()), default=0),
        levels=_levels(rewards, fine),
        ordinal=ordinal,
        ranked=_look_like_ranks(by_group, fine),
        steps=sum(one.steps for one in drawn),
        rewarded_steps=sum(min(one.steps, len(found)) for one, found in zip(drawn, own, strict=True)),
        steps_differ=_differ([reward for one in drawn for reward in one.step_rewards if isfinite(reward)], fine),
        cost=fsum(one.cost for one in scored) / len(scored) if scored else 0.0,
        resolution=fine,
        at_risk=at_risk,
    )


def _grouped(attempts: Iterable[Attempt]) -> Mapping[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {}
    for one in attempts:
        found.setdefault(one.group, []).append(one)
    return found


def _differ(rewards: Sequence[float], resolution: float) -> bool:
    return bool(rewards) and max(rewards) - min(rewards) > resolution


def _beats(members: Sequence[Attempt], resolution: float) -> bool:
    """Whether one with tokens beats another, with or without."""
    worst = min(one.reward for one in members)
    return any(one.recorded and one.reward - worst > resolution for one in members)


def _centred(groups: Sequence[Sequence[float]], spread: float) -> list[float]:
    """Distances from the group's mean, as shares of the spread, so that no power of them overflows."""
    if not isfinite(spread) or spread <= 0:
        return []
    scaled = [[value / spread for value in group] for group in groups if len(group) > 1]
    return [value - fmean(group) for group in scaled for value in group]


def _deviation(groups: Sequence[Sequence[float]], spread: float) -> float:
    distances = _centred(groups, spread)
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    return spread * sqrt(fsum(x * x for x in distances) / freedom) if distances and freedom else 0.0


def _skewness(groups: Sequence[Sequence[float]], spread: float) -> float:
    distances = _centred(groups, spread)
    second = fmean(x * x for x in distances) if distances else 0.0
    return fmean(x**3 for x in distances) / second**1.5 if second > 1e-18 else 0.0


def _levels(rewards: Sequence[float], resolution: float) -> int:
    ordered = sorted(rewards)
    return bool(ordered) + sum(high - low > resolution for low, high in pairwise(ordered))


def _look_like_ranks(groups: Sequence[Sequence[float]], resolution: float) -> bool:
    several = [sorted(group) for group in groups if len(group) > 1]
    if len(several) < 2 or len(several[0]) < RANKED or any(len(group) != len(several[0]) for group in several):
        return False
    first = several[0]
    gap = (first[-1] - first[0]) / (len(first) - 1)
    even = all(abs(value - first[0] - gap * place) <= resolution for place, value in enumerate(first))
    alike = all(abs(x - y) <= resolution for group in several for x, y in zip(group, first, strict=True))
    return gap > 2 * resolution and even and alike
