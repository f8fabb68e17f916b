"""Measurements of one round: pure functions of its evidence, the same whatever the order of the trajectories.

All rewards here are grades turned so that more is better, in the metric's unit.
"""

import math
from collections.abc import Sequence
from statistics import fmean, median

from pydantic import BaseModel, ConfigDict

from ..core import ModelCall, Trajectory
from ..evals.races import Outcome, Race
from ..training.dataset import STEP_REWARDS
from ..training.signals import Attempt, Signals, observe
from .decision import Lever
from .evidence import RoundEvidence, RoundRecord
from .failures import FailureGroup, failure_class, failure_groups
from .refusals import Refusal, always_refused, attempts_of

NATS_A_TOKEN = 1.0
"""Free text: nats a token that count as an entropy of one."""


class Measurements(BaseModel):
    """What a round's trajectories amount to."""

    model_config = ConfigDict(frozen=True)

    rollouts: int
    failures: list[FailureGroup]
    mean: float
    sd: float
    """Standard deviation of all rewards."""
    valid_share: float
    gap: float
    """Mean reward of the valid outputs less the worst grade: what one failure costs."""
    within_sd: float
    """Pooled standard deviation of the rewards within an item, `explained` failures left out."""
    doubling_gain: float
    """Rise of the mean if twice as many answers were drawn and the best kept: half of Gini's mean difference within
    an item, which is E max(a, b) - E a for two independent attempts."""
    best_lead: float
    """Mean over items of the best attempt's lead over the mean attempt."""
    group_size: float
    """Median attempts at an item."""
    varied_groups: int
    """Items whose attempts differ in reward."""
    sparsity: float
    """Share of the items with several attempts whose rewards are all equal: they teach nothing."""
    skewness: float
    """Of the rewards within items, pooled; positive where a few attempts are far better than the rest."""
    entropy: float | None
    """Mean over decisions of -log p / log k (k choices), an unbiased estimate of normalised entropy, capped at one;
    for free text -log p a token in nats. None where no log-probabilities were recorded."""
    recorded_share: float
    """Share of the trajectories whose model calls all carry token ids and log-probabilities."""
    slope: float
    """Covariance within items of reward and log-probability: the derivative of the mean reward by inverse temperature,
    to first order. Zero unless each rollout draws one answer."""
    slope_error: float
    """Standard error of the slope."""
    refusals: list[Refusal]
    """Partial assignments that were always refused and aren't pruned yet."""
    explained: list[str]
    """Failed trajectories of this round that those account for."""
    signals: Signals
    """What the choice of an objective for the weights asks of the rewards."""


def measure(evidence: RoundEvidence) -> Measurements:
    """Measure a round; an empty one gives zeros."""
    trajectories = sorted(evidence.trajectories, key=lambda one: one.id)
    rewards = [evidence.reward(one) for one in trajectories]
    valid = [reward for one, reward in zip(trajectories, rewards, strict=True) if failure_class(one) is None]
    worst, best = (evidence.metric.signed(evidence.metric.worst), evidence.metric.signed(evidence.metric.best))
    refusals = always_refused(
        attempts_of([*trajectories, *evidence.earlier]), evidence.scaffold.pruned if evidence.scaffold else ()
    )
    explained = _explained(trajectories, refusals)
    groups = {item: members for item, members in evidence.groups().items() if len(members) > 1}
    spread = {item: [evidence.reward(one) for one in members] for item, members in groups.items()}
    kept = {item: [one for one in members if one.id not in explained] for item, members in groups.items()}
    varied = sum(1 for values in spread.values() if max(values) - min(values) > 1e-9 * (best - worst))
    slope, slope_error = _slope(evidence, kept)
    return Measurements(
        rollouts=len(trajectories),
        failures=failure_groups(trajectories),
        mean=fmean(rewards) if rewards else 0.0,
        sd=_pooled_sd([rewards]),
        valid_share=len(valid) / len(rewards) if rewards else 0.0,
        gap=fmean(valid) - worst if valid else 0.1 * (best - worst),
        within_sd=_pooled_sd([[evidence.reward(one) for one in members] for members in kept.values()]),
        doubling_gain=fmean(map(_half_mean_difference, spread.values())) if spread else 0.0,
        best_lead=fmean(max(values) - fmean(values) for values in spread.values()) if spread else 0.0,
        group_size=median(len(members) for members in evidence.groups().values()) if trajectories else 0.0,
        varied_groups=varied,
        sparsity=1 - varied / len(spread) if spread else 1.0,
        skewness=_skewness(list(spread.values())),
        entropy=_entropy(trajectories),
        recorded_share=fmean(map(_is_recorded, trajectories)) if trajectories else 0.0,
        slope=slope,
        slope_error=slope_error,
        refusals=refusals,
        explained=sorted(explained),
        signals=signals_of(evidence),
    )


def signals_of(evidence: RoundEvidence) -> Signals:
    """What the round shows to the choice of an objective.

    Rewards nearer than a tenth of the metric's margin (a thousandth of its range, where it has none) are ties. A
    rollout has achieved nothing if its grade is the metric's worst. Capabilities may regress if other tasks are live in
    this home, or if trained weights have won the target race before and then not held out.
    """
    metric = evidence.metric
    return observe(
        (_attempt(evidence, one) for one in evidence.trajectories),
        floor=metric.signed(metric.worst),
        resolution=metric.margin / 10 or 1e-3 * abs(metric.best - metric.worst),
        ordinal=metric.ordinal,
        at_risk=evidence.guarded > 0 or any(map(_lost_hold_out, evidence.history)),
    )


def _attempt(evidence: RoundEvidence, one: Trajectory) -> Attempt:
    calls = [step for step in one.steps if isinstance(step, ModelCall)]
    graded = one.grade is not None and math.isfinite(one.grade.value)
    drawn = _is_recorded(one) and all(call.temperature > 0 for call in calls)
    return Attempt(
        group=one.item,
        reward=evidence.reward(one) if graded else math.nan,
        steps=len(calls),
        step_rewards=_step_rewards(evidence, one),
        recorded=drawn,  # a datum holds both, whatever it is used for
        logprobs=drawn,
        cost=one.usage.tokens / 1000 + one.usage.verifications,
    )


def _step_rewards(evidence: RoundEvidence, one: Trajectory) -> list[float]:
    found = one.grade.details.get(STEP_REWARDS) if one.grade is not None else None
    if not isinstance(found, list) or len(found) != len(one.steps):
        return []
    values = [float(each) for each in found if isinstance(each, int | float)]
    return [evidence.metric.signed(each) for each in values if math.isfinite(each)]


def _lost_hold_out(record: RoundRecord) -> bool:
    outcomes = record.outcomes
    won = outcomes.get(Race.TARGET) == Outcome.PASSED
    return record.lever is Lever.WEIGHTS and won and outcomes.get(Race.HOLDOUT) == Outcome.FAILED


def _explained(trajectories: Sequence[Trajectory], refusals: Sequence[Refusal]) -> set[str]:
    failed = {one.id for one in trajectories if failure_class(one) is not None}
    return failed & {id_ for refusal in refusals for id_ in refusal.trajectories}


def _pooled_sd(groups: Sequence[Sequence[float]]) -> float:
    squares = math.fsum((value - fmean(group)) ** 2 for group in groups if len(group) > 1 for value in group)
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    return math.sqrt(squares / freedom) if freedom else 0.0


def _half_mean_difference(values: Sequence[float]) -> float:
    ordered = sorted(values)
    count = len(ordered)
    weighted = math.fsum((2 * index - count + 1) * value for index, value in enumerate(ordered))
    return weighted / (count * (count - 1))


def _skewness(groups: Sequence[Sequence[float]]) -> float:
    deviations = [value - fmean(group) for group in groups for value in group]
    second = fmean(deviation**2 for deviation in deviations) if deviations else 0.0
    if second < 1e-18:
        return 0.0
    return fmean(deviation**3 for deviation in deviations) / second**1.5


def _entropy(trajectories: Sequence[Trajectory]) -> float | None:
    surprises: list[float] = []
    for step in (step for one in trajectories for step in one.steps if isinstance(step, ModelCall) and step.logprobs):
        if len(step.choices) > 1:
            surprises.append(-math.fsum(step.logprobs) / math.log(len(step.choices)))
        elif not step.choices:
            surprises.append(-fmean(step.logprobs) / NATS_A_TOKEN)
    return min(1.0, max(0.0, fmean(surprises))) if surprises else None


def _is_recorded(trajectory: Trajectory) -> bool:
    calls = [step for step in trajectory.steps if isinstance(step, ModelCall)]
    return bool(calls) and all(call.token_ids and len(call.token_ids) == len(call.logprobs) for call in calls)


def _slope(evidence: RoundEvidence, groups: dict[str, list[Trajectory]]) -> tuple[float, float]:
    config = evidence.scaffold
    if config is None or config.samples > 1 or config.repairs > 0:
        return 0.0, 0.0
    products: list[float] = []
    freedom = 0
    for members in groups.values():
        drawn = [(evidence.reward(one), _log_probability(one)) for one in members if _is_recorded(one)]
        if len(drawn) < 2:
            continue
        mean_reward, mean_log = fmean(reward for reward, _ in drawn), fmean(log for _, log in drawn)
        products += [(reward - mean_reward) * (log - mean_log) for reward, log in drawn]
        freedom += len(drawn) - 1
    if freedom < 2:
        return 0.0, 0.0
    slope = math.fsum(products) / freedom
    error = math.sqrt(math.fsum((product - fmean(products)) ** 2 for product in products)) / freedom
    return slope, error


def _log_probability(trajectory: Trajectory) -> float:
    return math.fsum(math.fsum(step.logprobs) for step in trajectory.steps if isinstance(step, ModelCall))
