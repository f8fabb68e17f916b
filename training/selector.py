"""Which objective fits what the rollouts show: a written rule, its thresholds, and its answer with the reason.

    signals = observe([Attempt(group="item-1", reward=0.2), Attempt(group="item-1", reward=0.9), ...])
    selection = select(signals)
    selection.objective          # GroupRelative(...), or none where nothing can be learned
    selection.reason             # in words, with the figures

`select` holds the rule; docs/objectives.md is the same on one page. It is the default of whoever decides: another
objective may be argued for (`settings` gives its parameters), but never one that the data can't feed (`unfed`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from .objectives import (
    PPO,
    Baseline,
    BestOfN,
    Entropic,
    GroupRelative,
    LossSettings,
    Objective,
    PolicyGradient,
    Preference,
    Reinforce,
    Scale,
    Supervised,
)
from .signals import DEEP, Attempt, Signals, observe

__all__ = ["Attempt", "Selection", "Signals", "Thresholds", "observe", "select", "settings", "unfed"]


class Thresholds(BaseModel):
    """The numbers of the rule; each is a judgement, stated so that it can be argued with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dense: float = Field(default=0.5, ge=0, le=1)
    """Share of steps with a reward of their own from which on rewards are dense."""
    dense_if_dear: float = Field(default=0.1, ge=0, le=1)
    """The same where rollouts are dear: then more is to be had from each."""
    dear: float = Field(default=20.0, ge=0)
    """Cost of a rollout from which on it is dear; one unit is 1,000 tokens, or one verification."""
    transitions: int = Field(default=1000, ge=1)
    """Steps from which on a value head has enough to learn from."""
    cold: float = Field(default=0.05, ge=0, le=1)
    """Share of successes below which the start is cold: the expected reward is next to nothing."""
    few: int = Field(default=20, ge=0)
    """Rollouts below which the estimate with the least variance is preferred: imitation of the best."""
    skew: float = 1.0
    """Skewness of rewards within groups from which on the best count far more than the rest (for two-valued rewards:
    at most 28 % successes)."""
    logprobs: float = Field(default=0.5, ge=0, le=1)
    """Share of rollouts with behaviour log-probabilities below which no policy gradient is taken."""
    kl: float = Field(default=0.05, ge=0)
    """Coefficient of the KL divergence to the base where capabilities may regress, for rewards of deviation one."""


_DEFAULT = Thresholds()


@dataclass(frozen=True)
class Selection:
    """What the rule chose."""

    objective: PolicyGradient | Supervised | None
    """None where no objective can learn from these rollouts."""
    reason: str
    """Why, with the figures that it rests on."""


def select(signals: Signals, thresholds: Thresholds = _DEFAULT) -> Selection:
    """Choose the objective by the first of these that applies and that the data can feed.

    1. Rewards are only ranks: preference, since ranks can be compared but not averaged; nothing else.
    2. Log-probabilities of the behaviour are missing for most rollouts: best-of-N, then preference, since no policy
       gradient can be corrected for who drew the rollouts.
    3. Rewards are dense (more readily so if a rollout is dear): REINFORCE with KL to the base if capabilities may
       regress; PPO with a value head if there are steps enough to learn one; else REINFORCE.
    4. Hardly anything succeeds: best-of-N on what did.
    5. Few rollouts, in groups: best-of-N.
    6. Rewards within groups are skewed to the right: entropic, in groups of four or more.
    7. Groups of several rollouts, a reward at the end: group-relative; of two or three, with the mean of the others.
    8. Rollouts without a group: REINFORCE.

    1 and 3 to 7 are the menu of SIA (arXiv 2605.27276, section 7.3), in the order in which a condition excludes what
    comes below it; the thresholds are Pawl's. Where capabilities may regress, every policy gradient pays the KL.

    Args:
        signals: what the rollouts show.
        thresholds: the numbers of the rule.
    """
    missed: list[str] = []
    for objective, why in _wanted(signals, thresholds):
        lacking = unfed(objective, signals)
        if not lacking:
            reason = "; ".join([*missed, why, _shape(signals)])
            return Selection(settings(objective, signals, thresholds), f"{reason[:1].upper()}{reason[1:]}.")
        note = f"{objective} would fit, but {lacking}"
        if note not in missed:
            missed.append(note)
    return Selection(None, f"Nothing to learn from: {unfed_at_all(signals)}; {_shape(signals)}.")


def _wanted(signals: Signals, rule: Thresholds) -> Iterator[tuple[Objective, str]]:
    s = signals
    if s.ordinal or s.ranked:
        seen = "the metric says so" if s.ordinal else f"every group holds the same {s.levels} evenly spaced ones"
        yield Objective.PREFERENCE, f"rewards are only ranks ({seen})"
        return
    if s.logprobs < rule.logprobs:
        why = f"only {s.logprobs:.0%} of the rollouts carry log-probabilities (least {rule.logprobs:.0%})"
        yield Objective.BEST_OF_N, f"{why}, so the best are imitated"
        yield Objective.PREFERENCE, f"{why}, so pairs are compared"
        return
    dear = s.cost >= rule.dear
    least = rule.dense_if_dear if dear else rule.dense
    if s.rewarded_steps and s.density >= least:
        why = f"rewards are dense: {s.rewarded_steps} of {s.steps} steps have one of their own (least {least:.0%}"
        why += f", as a rollout is dear: {s.cost:.3g} units)" if dear else ")"
        if s.at_risk:
            yield Objective.REINFORCE, f"{why}, and capabilities may regress"
        if s.steps >= rule.transitions:
            yield Objective.PPO, f"{why}, and there are enough for a value head ({rule.transitions})"
        yield Objective.REINFORCE, f"{why}, too few for a value head ({rule.transitions})"
    if s.successes < rule.cold:
        yield Objective.BEST_OF_N, f"the start is cold: {s.successes:.1%} succeed (below {rule.cold:.0%})"
    if s.rollouts < rule.few and s.imitable:
        yield Objective.BEST_OF_N, f"{s.rollouts} rollouts are few (below {rule.few})"
    if s.skewness >= rule.skew:
        yield Objective.ENTROPIC, f"a few are far better than the rest: skewness {s.skewness:.2f} (from {rule.skew:g})"
    why = f"one reward a rollout, at the end, skewness {s.skewness:.2f}"
    yield Objective.GROUP_RELATIVE, f"{why}: each counts by its distance from its group's"
    yield Objective.REINFORCE, "rollouts were not drawn in groups: each counts by its distance from the mean of all"


def _shape(s: Signals) -> str:
    text = f"{s.rollouts} rollouts in {s.groups} groups of {s.group_size:g}, {s.varied} of which differ in reward, "
    text += f"{s.levels} levels of reward, {s.successes:.0%} successes, {s.cost:.3g} units each"
    return f"{text}, {s.dropped} left out without a finite reward" if s.dropped else text


def unfed(objective: Objective, signals: Signals) -> str:
    """Why these rollouts can't feed an objective, in words; empty where they can.

    Args:
        objective: any of the six.
        signals: what the rollouts show.
    """
    s = signals
    if objective is Objective.BEST_OF_N:
        lone = s.groups == s.rollouts
        if not s.imitable and (not lone or s.least_success is None):
            return "no recorded rollout beats another of its group"
        return ""
    if objective is Objective.PREFERENCE:
        return "" if s.pairable else "no two recorded rollouts of a group differ in reward"
    if s.logprobs == 0:
        return "no rollout carries log-probabilities"
    if objective is Objective.GROUP_RELATIVE:
        return "" if s.varied else "no group holds two rollouts that differ in reward"
    if objective is Objective.ENTROPIC:
        return "" if s.deep else f"no group of {DEEP} or more differs in reward"
    if objective is Objective.REINFORCE:
        if s.varied or (s.groups == s.rollouts and s.differ):
            return ""
        return "rewards don't differ" if not s.differ else "what differs is the items, not the attempts at one"
    return "" if s.differ or s.steps_differ else "neither the rollouts' rewards nor their steps' differ"


def unfed_at_all(signals: Signals) -> str:
    """Why no objective can learn from these rollouts."""
    if not signals.rollouts:
        return "there are no rollouts with a finite reward"
    if signals.logprobs == 0 and not signals.imitable:
        return "no tokens were recorded, or no rollout beats another of its group"
    if signals.ordinal or signals.ranked:
        return unfed(Objective.PREFERENCE, signals)
    return unfed(Objective.REINFORCE, signals)


def settings(objective: Objective, signals: Signals, thresholds: Thresholds = _DEFAULT) -> PolicyGradient | Supervised:
    """An objective's parameters for these rollouts; what the rule doesn't speak of keeps its default.

    - What has the reward's unit follows the rewards: every `resolution`, the cap on the entropic beta, the clip of
      PPO's values, the threshold of imitation, and the KL's coefficient where rewards aren't divided by a deviation.
    - Groups of two or three take the mean of the others and no deviation, which so few don't give (RLOO); larger ones
      their mean and deviation (GRPO, DAPO).
    - A cold start imitates every success, and nothing else.

    Args:
        objective: any of the six, also one that the rule didn't choose.
        signals: what the rollouts show.
        thresholds: the numbers of the rule.
    """
    s = signals
    kl = thresholds.kl if s.at_risk else 0.0
    match objective:
        case Objective.PPO:
            clip = PPO().value_clip * (s.spread or 1.0)
            return PPO(value_clip=clip, loss=LossSettings(kl=kl))
        case Objective.GROUP_RELATIVE if s.group_size < DEEP:
            return GroupRelative(
                baseline=Baseline.LEAVE_ONE_OUT,
                scale=Scale.NONE,
                resolution=s.resolution,
                loss=LossSettings(kl=kl * s.deviation),
            )
        case Objective.GROUP_RELATIVE:
            return GroupRelative(resolution=s.resolution, loss=LossSettings(kl=kl))
        case Objective.ENTROPIC:
            finest = s.resolution or 1e-6 * (s.spread or 1.0)
            return Entropic(resolution=s.resolution, beta_max=1 / finest, loss=LossSettings(kl=kl))
        case Objective.REINFORCE:
            return Reinforce(loss=LossSettings(kl=thresholds.kl))
        case Objective.BEST_OF_N:
            if s.least_success is not None and (s.successes < thresholds.cold or not s.imitable):
                return BestOfN(keep=max(1, s.most_successes), threshold=s.least_success)
            return BestOfN()
        case Objective.PREFERENCE:
            return Preference(resolution=s.resolution)


def options(signals: Signals) -> Sequence[tuple[Objective, str]]:
    """Every objective with why these rollouts can't feed it, or an empty text where they can."""
    return [(objective, unfed(objective, signals)) for objective in Objective]
