"""The three races: what each asks, and how paired effects are turned into one outcome. All of it pure.

    effects = paired_effects(items, candidate, live, metric)
    screen = target_race(effects, seed=7)

An *effect* is the candidate's grade minus live's on the same item with the same rollout seed, turned so that more
is better, and averaged over an item's repeats. A race passes, fails, or is inconclusive; inconclusive never promotes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ..core import Grade, Trajectory, Usage
from .statistics import mean, mean_bounds, paired_interval, sign_flip_pvalue
from .task import Item, Metric


class Race(StrEnum):
    """The gauntlet's comparisons, in the order in which they are run."""

    TARGET = "target"
    """On visible items: better, by point estimate with interval. A screen."""
    HOLDOUT = "holdout"
    """On sealed items: superior on the target, and not inferior on every guard."""
    ADVERSARIAL = "adversarial"
    """On sealed items: no cheat found, and not inferior under perturbation."""


class Outcome(StrEnum):
    """What a race says, and all that a sealed one says."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class RaceRules(BaseModel):
    """How many items a sealed race takes, and how sure it must be; fixed by the commitment of a campaign."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Chance that a whole campaign promotes a candidate whose grades are exchangeable with live's on every item.

    It is no bound for one that gains a little nearly always and fails rarely but badly: few items may show no failure.
    """
    holdout: int = Field(default=32, ge=4)
    """Fresh sealed items of the target; twice as many where the first look is inconclusive but hopeful."""
    regression: int = Field(default=16, ge=0)
    """Fresh sealed items spread evenly over the slices, and as many of each other task."""
    adversarial: int = Field(default=8, ge=1)
    looks: int = Field(default=2, ge=1, le=2)
    """Looks at the hold-out race's data; each look tests at an equal share of the race's alpha."""
    guard_items: int = Field(default=6, ge=2)
    """A slice with fewer items than this can't be judged, and then the race is inconclusive."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """One-sided confidence of every non-inferiority bound."""
    resamples: int = Field(default=20_000, ge=1_000)
    bits: float = Field(default=64.0, gt=0.0)
    """What a campaign may learn from sealed data before the judge refuses; an outcome is log2(3) bits."""
    batch: int = Field(default=32, ge=1)
    """Rollouts of one lock step; results are kept a batch at a time, so that a resumed race repeats its tokens."""
    rollout_bill: Usage = Usage(input_tokens=8_000, output_tokens=128, verifications=1, cpu_seconds=0.25)
    """What one sealed rollout is billed at until the reveal, whatever it cost; its tokens are the most that its calls
    may use. A model that writes text needs more: see `evals.bills`."""


class Effect(BaseModel):
    """Candidate minus live on one item, more is better."""

    model_config = ConfigDict(frozen=True)

    item: str
    slice: str
    value: float
    conditions: dict[str, float] = {}
    """The same effect under each perturbed condition, where grades are estimated."""
    estimated: bool = False


class Guard(BaseModel):
    """One slice, or one other task, on which the candidate must not be inferior by more than a margin."""

    model_config = ConfigDict(frozen=True)

    effects: list[float]
    margin: float


class Verdict(BaseModel):
    """An outcome with the evidence for it; of a sealed race, only the digest leaves the judge."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    why: list[str]
    """Stable codes of what kept it from passing, such as ``not-superior`` or ``guard:large``."""
    mean: float
    low: float | None
    high: float | None
    """Mean effect with its interval (two-sided, 95 %); no ends below two items."""
    items: int
    p_value: float | None = None
    alpha: float | None = None
    guards: dict[str, list[float]] = {}
    """Lower and upper bound, and margin, of each guard."""
    conditions: dict[str, float] = {}
    """Mean effect under each perturbed condition."""
    estimated: bool = False


def paired_effects(
    items: Iterable[Item], candidate: Iterable[Trajectory], live: Iterable[Trajectory], metric: Metric
) -> list[Effect]:
    """Pair graded trajectories by item and rollout seed, and average over the seeds of an item.

    Attempts without a partner are left out; so are items that were not given. In the order of the items.
    """
    partners = {(each.item, each.seed): each.grade for each in live}
    pairs: dict[str, list[tuple[Grade, Grade]]] = {}
    for each in sorted(candidate, key=lambda one: (one.item, one.seed)):
        partner = partners.get((each.item, each.seed))
        if each.grade is not None and partner is not None:
            pairs.setdefault(each.item, []).append((each.grade, partner))
    distinct = {item.id: item for item in items}
    return [_effect(item, pairs[item.id], metric) for item in distinct.values() if item.id in pairs]


def _effect(item: Item, pairs: Sequence[tuple[Grade, Grade]], metric: Metric) -> Effect:
    def difference(name: str | None) -> float:
        return mean([metric.signed(_under(a, name)) - metric.signed(_under(b, name)) for a, b in pairs])

    names = sorted({name for pair in pairs for grade in pair for name in _conditions(grade)})
    return Effect(
        item=item.id,
        slice=item.slice,
        value=difference(None),
        conditions={name: difference(name) for name in names},
        estimated=any(grade.estimated for pair in pairs for grade in pair),
    )


def _conditions(grade: Grade) -> Mapping[str, JsonValue]:
    found = grade.details.get("conditions")
    return found if isinstance(found, dict) else {}


def _under(grade: Grade, condition: str | None) -> float:
    # A rejected output has no value under a condition: it is as bad there as everywhere.
    value = _conditions(grade).get(condition) if condition is not None else None
    return float(value) if isinstance(value, int | float) else grade.value


def target_race(effects: Sequence[Effect], seed: int) -> Verdict:
    """The screen on visible items: passed if the mean effect is above zero.

    It fails if the whole interval is below zero, and is inconclusive between, or without a single pair.
    """
    values = [effect.value for effect in effects]
    high = paired_interval(values, seed)[1]
    better = mean(values) > 0.0
    outcome = Outcome.PASSED if better else Outcome.FAILED if high < 0.0 else Outcome.INCONCLUSIVE
    return _verdict(effects, seed, outcome, [] if better else ["not-better"])


def holdout_race(
    effects: Sequence[Effect], guards: Mapping[str, Guard], *, alpha: float, rules: RaceRules, seed: int
) -> Verdict:
    """The sealed race: superior on the target, and not inferior, by margin, on every guard.

    Superior: the one-sided sign-flip test rejects at `alpha`, and, where grades rest on estimates, the mean effect is
    above zero under every perturbed condition too. Not inferior: the lower confidence bound of a guard is above minus
    its margin. All guards must hold together, so they share no alpha (intersection-union test). A guard with fewer
    items than `rules.guard_items` proves nothing, and the race is inconclusive. The race fails if the candidate is
    significantly worse on the target, or if a guard's upper bound is below minus its margin.
    """
    values = [effect.value for effect in effects]
    p_value = sign_flip_pvalue(values, seed, rules.resamples)
    conditions = _mean_conditions(effects)
    why: list[str] = []
    if p_value > alpha:
        why.append("not-superior")
    why += [f"condition:{name}" for name, value in conditions.items() if value <= 0.0]
    doubts, worse, bounds = _judge_guards(guards, rules)
    why += doubts
    beaten = sign_flip_pvalue([-value for value in values], seed, rules.resamples) <= 1.0 - rules.confidence
    if beaten:
        worse.append("worse")
    outcome = Outcome.FAILED if worse else Outcome.INCONCLUSIVE if why else Outcome.PASSED
    return _verdict(effects, seed, outcome, why + worse, p_value=p_value, alpha=alpha, guards=bounds)


def adversarial_race(
    effects: Sequence[Effect], *, cheats: Sequence[str], margin: float, rules: RaceRules, seed: int
) -> Verdict:
    """The last race: any cheat found fails it, and the candidate must not be inferior under any perturbation.

    An effect without a condition that others have counts with its plain value. Codes of `cheats` go into `why`.
    """
    names = sorted({name for effect in effects for name in effect.conditions})
    guards = {
        f"condition:{name}": Guard(effects=[e.conditions.get(name, e.value) for e in effects], margin=margin)
        for name in names
    } or {"value": Guard(effects=[effect.value for effect in effects], margin=margin)}
    doubts, worse, bounds = _judge_guards(guards, rules)
    worse += [f"cheat:{code}" for code in sorted(set(cheats))]
    outcome = Outcome.FAILED if worse else Outcome.INCONCLUSIVE if doubts else Outcome.PASSED
    return _verdict(effects, seed, outcome, doubts + worse, guards=bounds)


def _judge_guards(guards: Mapping[str, Guard], rules: RaceRules) -> tuple[list[str], list[str], dict[str, list[float]]]:
    """Doubts, proofs of inferiority, and [lower bound, upper bound, margin] of each guard."""
    doubts: list[str] = []
    worse: list[str] = []
    bounds: dict[str, list[float]] = {}
    for name, guard in sorted(guards.items()):
        if len(guard.effects) < rules.guard_items:
            doubts.append(f"too-few:{name}")
            continue
        low, high = mean_bounds(guard.effects, rules.confidence)
        bounds[name] = [low, high, guard.margin]
        if high < -guard.margin:
            worse.append(f"inferior:{name}")
        elif low <= -guard.margin:
            doubts.append(f"guard:{name}")
    return doubts, worse, bounds


def _mean_conditions(effects: Sequence[Effect]) -> dict[str, float]:
    names = sorted({name for effect in effects for name in effect.conditions})
    return {name: mean([effect.conditions.get(name, effect.value) for effect in effects]) for name in names}


def _verdict(
    effects: Sequence[Effect],
    seed: int,
    outcome: Outcome,
    why: list[str],
    *,
    p_value: float | None = None,
    alpha: float | None = None,
    guards: dict[str, list[float]] | None = None,
) -> Verdict:
    values = [effect.value for effect in effects]
    low, high = paired_interval(values, seed)
    return Verdict(
        outcome=outcome,
        why=why,
        mean=mean(values),
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        items=len(values),
        p_value=p_value,
        alpha=alpha,
        guards=guards or {},
        conditions=_mean_conditions(effects),
        estimated=any(effect.estimated for effect in effects),
    )
