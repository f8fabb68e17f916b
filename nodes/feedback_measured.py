"""The Feedback-Agent that reasons from the measurements alone: no language model, the same answer every time.

decision = await MeasuredFeedback().decide(evidence)
"""

from collections.abc import Sequence
from itertools import zip_longest

from ..training.selector import Thresholds, select
from .decision import Decision, Diagnosis, Lever
from .evidence import RoundEvidence, RoundRecord
from .measurements import Measurements, measure
from .prospects import Prospect, Rule, price, prospects

MOST_CITED = 12


class MeasuredFeedback:
    """A decision rule; its numbers are those of `Rule`.

    1. No rollouts, or the endpoint failed at `broken` of them or more: stop. No lever mends that.
    2. A lever that was pulled `patience` times since the last promotion, in vain, rests until the next one. If every
       lever at hand rests, that's a plateau: stop. A lever is at hand if step 3 finds it any promise.
    3. What is promised (`prospects`): for the scaffold, per operator, the share of rollouts lost to what the operator
       removes times the cost of a loss, or, for spread within items, what drawing more would select; for the
       weights, step x sd within items x normalised entropy, where rewards vary with the choices and the policy isn't
       sure yet. Each promise is multiplied by the share of their promises that past pulls of the same operator, or of
       training, have kept.
    4. A promise below `least_share` of the metric's margin isn't worth a round. If no other is left: stop.
    5. What the budget can't pay is set aside. If nothing is left: stop.
    6. The greatest gain per cost wins, the cost in tokens, verifications and training steps, and with `horizon` rounds
       of what it adds to each. Ties go to the cheaper, then to the scaffold (undone without retraining), then by name.
    7. The objective for the weights is the one of `training.selector.select`. Where it finds none that these rollouts
       could feed, the weights aren't at hand.

    What a person answered at the gate is text, which this agent can't weigh: a rejection counts as a pull in vain.
    """

    def __init__(self, rule: Rule | None = None, thresholds: Thresholds | None = None) -> None:
        """Set the numbers.

        Args:
            rule: of the choice of a lever.
            thresholds: of the choice of an objective.
        """
        self.rule = rule or Rule()
        self.thresholds = thresholds or Thresholds()

    async def decide(self, evidence: RoundEvidence) -> Decision:
        """Decide by the rule above."""
        measured, rule = measure(evidence), self.rule
        broken = [one for one in measured.failures if one.signature.kind is Diagnosis.MODEL_FAILED]
        if not measured.rollouts:
            return _stop(Diagnosis.NO_PROMISE, "There are no rollouts to learn from.", [])
        if sum(one.share for one in broken) >= rule.broken:
            lost = sum(one.count for one in broken)
            reason = f"The model endpoint failed {lost} of {measured.rollouts} rollouts; no lever mends that."
            return _stop(Diagnosis.MODEL_FAILED, reason, [id_ for one in broken for id_ in one.trajectories])
        found = prospects(evidence, measured, rule)
        if select(measured.signals, self.thresholds).objective is None:
            found = [one for one in found if one.lever is not Lever.WEIGHTS]
        vain = {lever: _in_vain(evidence.history, lever) for lever in {one.lever for one in found}}
        if vain and min(vain.values()) >= rule.patience:
            pulls = ", ".join(f"{lever} {count}" for lever, count in sorted(vain.items()))
            return _stop(Diagnosis.PLATEAU, f"Pulled without a promotion since the last one: {pulls}.", [])
        least = least_gain(evidence, rule)
        awake = [one for one in found if vain[one.lever] < rule.patience]
        promising = [one for one in awake if one.gain >= least]
        if not promising:
            best = max(awake, key=lambda one: one.gain, default=None)
            most = "nothing" if best is None else f"{best.gain:.4g} ({best.operator or best.lever})"
            reason = f"The most that is promised is {most}; below {least:.4g} it isn't worth a round."
            return _stop(Diagnosis.NO_PROMISE, reason, [])
        payable = [one for one in promising if evidence.budget.pays(one.cost)]
        if not payable:
            cost = min((one.cost for one in promising), key=rule.units)
            reason = f"The budget left ({evidence.budget}) doesn't pay for the cheapest promising round ({cost})."
            return _stop(Diagnosis.BUDGET, reason, [])
        chosen = min(payable, key=lambda one: (-one.gain / price(one, rule), price(one, rule), _place(one)))
        return self._decide(chosen, _runner_up(payable, chosen, rule), evidence, measured)

    def _decide(
        self, chosen: Prospect, other: Prospect | None, evidence: RoundEvidence, measured: Measurements
    ) -> Decision:
        rule, unit = self.rule, evidence.metric.unit
        name = f"scaffold ({chosen.operator})" if chosen.operator else "weights"
        reason = (
            f"{_why(chosen, measured)} {name} promises {chosen.gain:+.3g} {unit} for {price(chosen, rule):.0f} units"
        )
        if chosen.credit < 1.0:
            reason += f", at {chosen.credit:.0%} credit by its record"
        if other is not None:
            reason += f"; {other.operator or other.lever} {other.gain:+.3g} for {price(other, rule):.0f}"
        selection = select(measured.signals, self.thresholds) if chosen.lever is Lever.WEIGHTS else None
        return Decision(
            lever=chosen.lever,
            diagnosis=chosen.treats[0],
            objective=selection.objective if selection is not None else None,
            objective_reason=selection.reason if selection is not None else "",
            reason=f"{reason}.",
            evidence=_cited(chosen, evidence, measured),
            expected_gain=chosen.gain,
            expected_cost=chosen.cost,
        )


def least_gain(evidence: RoundEvidence, rule: Rule) -> float:
    """The smallest gain worth a round, in the metric's unit: a share of its margin (of 1 % of its range if none)."""
    metric = evidence.metric
    return rule.least_share * (metric.margin or 0.01 * abs(metric.best - metric.worst))


def _in_vain(history: Sequence[RoundRecord], lever: Lever) -> int:
    """Pulls of a lever since the last promotion of any."""
    last = max((record.round for record in history if record.promoted), default=-1)
    return sum(1 for record in history if record.lever is lever and record.round > last)


def _place(prospect: Prospect) -> tuple[bool, str]:
    return prospect.lever is not Lever.SCAFFOLD, prospect.operator or ""


def _runner_up(payable: Sequence[Prospect], chosen: Prospect, rule: Rule) -> Prospect | None:
    others = [one for one in payable if one.lever is not chosen.lever]
    return max(others, key=lambda one: one.gain / price(one, rule), default=None)


def _why(chosen: Prospect, measured: Measurements) -> str:
    main = chosen.treats[0]
    if main is Diagnosis.LIKELIHOOD:
        return f"Reward and likelihood go together within items (slope {measured.slope:+.3g})."
    if main is Diagnosis.SPREAD:
        sure = "unknown" if measured.entropy is None else f"{measured.entropy:.2f}"
        return f"Attempts at the same item differ (sd {measured.within_sd:.3g}, entropy of choices {sure})."
    groups = [one for one in measured.failures if one.signature.kind is main]
    codes = ", ".join(sorted({one.signature.code for one in groups})[:3])
    return f"{sum(one.count for one in groups)} of {measured.rollouts} rollouts were {main} ({codes})."


def _cited(chosen: Prospect, evidence: RoundEvidence, measured: Measurements) -> list[str]:
    """Ids behind a choice: failures of what it treats, each group in turn; for spread the extremes of items."""
    members = [one.trajectories for one in measured.failures if one.signature.kind in chosen.treats]
    ids = [id_ for row in zip_longest(*members) for id_ in row if id_ is not None]
    if Diagnosis.SPREAD in chosen.treats or Diagnosis.LIKELIHOOD in chosen.treats:
        ranked = [sorted(group, key=evidence.reward) for group in evidence.groups().values() if len(group) > 1]
        ranked.sort(key=lambda group: evidence.reward(group[0]) - evidence.reward(group[-1]))
        ids += [one.id for group in ranked for one in (group[-1], group[0])]
    return list(dict.fromkeys(ids))[:MOST_CITED]


def _stop(diagnosis: Diagnosis, reason: str, evidence: list[str]) -> Decision:
    return Decision(lever=Lever.STOP, diagnosis=diagnosis, reason=reason, evidence=evidence[:MOST_CITED])
