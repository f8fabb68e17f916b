"""What each lever, and each scaffold operator, promises and costs on this round's evidence.

The Feedback-Agent compares levers by it, the typed editor compares operators: one estimate for both. Gains are rises
of the mean grade turned so that more is better, in the metric's unit. Costs are in units that repeat exactly.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from ..core import Usage
from ..evals.scaffold import Mode, ScaffoldConfig
from .decision import Diagnosis, Lever, Operator
from .edits import COOLING, proposals
from .evidence import RoundEvidence, RoundRecord
from .failures import failure_class
from .measurements import Measurements


class Rule(BaseModel):
    """The numbers of the decision rule; each is a judgement, stated so that it can be argued with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: float = 1.0
    """Standard deviations that one training job can move the mean of an undecided policy. Within a KL divergence d
    of a policy the mean rises by at most about sd * sqrt(2 d) (exponential tilting, second order): 1 is 1/2 nat, spread
    over all decisions of a rollout."""
    least_share: float = 0.2
    """A promise below this share of the metric's margin isn't worth a round."""
    patience: int = 2
    """Pulls in a row, of each lever at hand, without a promotion of any, that make a plateau."""
    least_groups: int = 2
    least_rollouts: int = 8
    """Items with differing rewards, and rollouts, below which training has nothing to go by."""
    horizon: int = 4
    """Later rounds in which a dearer rollout is charged again."""
    token: float = 0.001
    verification: float = 1.0
    training_step: float = 8.0
    """Cost units: a verification is one, so are 1,000 tokens; a step of training is some 8,000 tokens' work."""
    steps_a_rollout: float = 0.2
    """Training steps per rollout, before a job has told."""
    exemplars: float = 0.1
    """Share of the best attempts' lead that showing them to a capable model is first credited with."""
    words: float = 0.1
    """Share of a failure's cost that telling a capable model of it is first credited with."""
    form: float = 0.3
    """The same, for telling the form of the output."""
    files: float = 0.5
    """The same, for letting a capable model rewrite files."""
    small: float = 0.25
    """What of the shares for exemplars, words and form a small model is credited with."""
    broken: float = 0.5
    """Share of rollouts lost to the endpoint above which nothing can be concluded."""

    def units(self, usage: Usage) -> float:
        """One number for a cost; CPU seconds don't count, because they don't repeat."""
        return (
            self.token * usage.tokens
            + self.verification * usage.verifications
            + self.training_step * usage.training_steps
        )


class Prospect(BaseModel):
    """One thing that could be done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lever: Lever
    operator: Operator | None = None
    treats: list[Diagnosis]
    """What it is good against, the most important first."""
    promise: float
    """Expected gain by the evidence of this round alone."""
    credit: float = 1.0
    """What is left of a promise by the record: (1 + what past pulls kept of theirs) / (1 + pulls)."""
    cost: Usage
    """Of the round that tries it."""
    running: Usage = Field(default=Usage())
    """What each later round costs more if it stays."""

    @property
    def gain(self) -> float:
        """The promise as far as the record lets one believe it."""
        return self.promise * self.credit


def prospects(evidence: RoundEvidence, measured: Measurements, rule: Rule) -> list[Prospect]:
    """Everything that promises more than nothing, in a fixed order."""
    found = [*scaffold_prospects(evidence, measured, rule), weights_prospect(evidence, measured, rule)]
    return [prospect for prospect in found if prospect.promise > 0.0]


def price(prospect: Prospect, rule: Rule) -> float:
    """Cost in the rule's units, with what it adds to the rounds of the horizon; at least one."""
    return max(1.0, rule.units(prospect.cost) + rule.horizon * rule.units(prospect.running))


def weights_prospect(evidence: RoundEvidence, measured: Measurements, rule: Rule) -> Prospect:
    """Promise of training: step x sd within items x normalised entropy.

    Rewards must vary with the choices, and the policy must not be sure yet. Failures that pruning explains don't count
    into the spread: they are credited to the operator that removes them for certain. The promise is zero where the
    model can't be trained, log-probabilities weren't recorded, or too few items and rollouts have differing rewards.
    """
    teachable = (
        evidence.trainable
        and measured.recorded_share >= 0.5
        and measured.varied_groups >= rule.least_groups
        and measured.rollouts >= rule.least_rollouts
    )
    base = _round_cost(evidence)
    jobs = [record.cost.training_steps for record in evidence.history if record.lever is Lever.WEIGHTS]
    steps = sum(jobs) / len(jobs) if jobs else rule.steps_a_rollout * measured.rollouts
    return Prospect(
        lever=Lever.WEIGHTS,
        treats=[Diagnosis.SPREAD],
        promise=rule.step * measured.within_sd * (measured.entropy or 0.0) if teachable else 0.0,
        credit=_credit(evidence, [record for record in evidence.history if record.lever is Lever.WEIGHTS]),
        cost=base.model_copy(update={"training_steps": math.ceil(steps)}),
    )


def scaffold_prospects(evidence: RoundEvidence, measured: Measurements, rule: Rule) -> list[Prospect]:
    """Promise of each scaffold operator that can change the live scaffold.

    With f the share of rollouts lost to a class and gap the cost of one loss (mean valid grade less the worst):

    - prune: explained share x gap
    - repairs: f(refused, wrong, malformed) x gap x share of valid outputs; every answer is verified
    - samples, from k to k + 1: doubling gain x log2(1 + 1/k); every answer is drawn and verified
    - lighter: f(timed out, overflowed) x gap / 2
    - cooler, warmer: |slope|, less its standard error, x the change of inverse temperature
    - exemplars: a share of the best attempts' lead; longer prompts
    - prompt: shares of f x gap, by class; longer prompts
    - files, with a capable model: a share of all f x gap, and of the best attempts' lead
    """
    if not measured.rollouts:
        return []
    config, base = evidence.scaffold, _round_cost(evidence)
    found: list[Prospect] = []
    for offer in _offers(evidence, measured, rule):
        typed = offer.operator is not Operator.FILES
        if typed and (config is None or not any(proposals(offer.operator, config, evidence, measured))):
            continue
        past = [record for record in evidence.history if record.operator is offer.operator]
        found.append(
            Prospect(
                lever=Lever.SCAFFOLD,
                operator=offer.operator,
                treats=offer.treats,
                promise=offer.promise,
                credit=_credit(evidence, past),
                cost=base + offer.more,
                running=offer.more,
            )
        )
    return found


@dataclass(frozen=True)
class _Offer:
    operator: Operator
    promise: float
    treats: list[Diagnosis]
    more: Usage = field(default_factory=Usage)


def _offers(evidence: RoundEvidence, measured: Measurements, rule: Rule) -> Iterator[_Offer]:
    config = evidence.scaffold or ScaffoldConfig(mode=Mode.SOURCE)
    gap, rollouts, spent = measured.gap, measured.rollouts, _spent(evidence)
    lost = {kind: math.fsum(one.share for one in measured.failures if one.signature.kind is kind) for kind in Diagnosis}
    by_share = sorted((kind for kind in Diagnosis if lost[kind] > 0), key=lambda kind: (-lost[kind], kind))
    slowed = lost[Diagnosis.TIMED_OUT] + lost[Diagnosis.OVERFLOWED]
    told = [kind for kind in by_share if kind in _TELLABLE]
    prompt = spent.model_copy(update={"output_tokens": 0, "verifications": 0, "training_steps": 0})
    verified = Usage(verifications=rollouts)
    heard = 1.0 if evidence.capable else rule.small

    if measured.explained:
        kinds = Counter(failure_class(one) for one in evidence.trajectories if one.id in set(measured.explained))
        causes = sorted((kind for kind in kinds if kind is not None), key=lambda kind: (-kinds[kind], kind))
        yield _Offer(Operator.PRUNE, len(measured.explained) / rollouts * gap, causes)
    if told:
        redrawn = math.fsum(lost[kind] for kind in told)
        checking = verified if config.repairs == 0 and config.samples == 1 else Usage()
        cost = _scaled(spent, redrawn) + checking
        yield _Offer(Operator.REPAIRS, redrawn * gap * measured.valid_share, told, cost)
        said = math.fsum(lost[kind] * (rule.form if kind is Diagnosis.MALFORMED else rule.words) for kind in told)
        yield _Offer(Operator.PROMPT, said * gap * heard, told, _scaled(prompt, 0.25))
    if slowed:
        yield _Offer(Operator.LIGHTER, slowed * gap / 2, [Diagnosis.TIMED_OUT, Diagnosis.OVERFLOWED])
    checking = _scaled(verified, 2.0 if config.samples == 1 else 1.0)
    more = math.log2(1 + 1 / config.samples)
    yield _Offer(
        Operator.SAMPLES,
        measured.doubling_gain * more,
        [Diagnosis.SPREAD],
        _scaled(spent, 1 / config.samples) + checking,
    )
    yield _Offer(
        Operator.EXEMPLARS, heard * rule.exemplars * measured.best_lead, [Diagnosis.SPREAD], _scaled(prompt, 0.5)
    )
    turned = max(0.0, abs(measured.slope) - measured.slope_error)
    if measured.slope > 0:
        yield _Offer(Operator.COOLER, turned * (1 / COOLING - 1), [Diagnosis.LIKELIHOOD])
    if measured.slope < 0:
        yield _Offer(Operator.WARMER, turned * (1 - COOLING), [Diagnosis.LIKELIHOOD])
    if evidence.capable:
        mendable = [kind for kind in by_share if kind is not Diagnosis.MODEL_FAILED]
        failing = rule.files * gap * math.fsum(lost[kind] for kind in mendable)
        yield _Offer(Operator.FILES, failing + rule.exemplars * measured.best_lead, [*mendable, Diagnosis.SPREAD])


_TELLABLE = frozenset({Diagnosis.REFUSED, Diagnosis.WRONG, Diagnosis.MALFORMED})
"""Failures that a second draw, or a word in the prompt, may avoid."""


def _credit(evidence: RoundEvidence, past: Sequence[RoundRecord]) -> float:
    """Share of a promise that the record supports: one promise kept in full stands before the first pull."""
    return (1.0 + math.fsum(_kept(evidence, record) for record in past)) / (1.0 + len(past))


def _kept(evidence: RoundEvidence, record: RoundRecord) -> float:
    if not record.promoted:
        return 0.0
    if record.before is None or record.after is None or record.expected_gain <= 0.0:
        return 1.0
    brought = evidence.metric.signed(record.after) - evidence.metric.signed(record.before)
    return min(1.0, max(0.0, brought / record.expected_gain))


def _spent(evidence: RoundEvidence) -> Usage:
    return sum((one.usage for one in evidence.trajectories), Usage()).repeatable


def _round_cost(evidence: RoundEvidence) -> Usage:
    """What a round takes whatever is pulled, were every rollout like this round's.

    That is its rollouts twice, by live and by the candidate, and the sealed ones. What sealed races are billed at is
    an upper bound, not a measurement, and so no part of it.
    """
    rollouts = max(1, len(evidence.trajectories))
    return _scaled(_spent(evidence), 2.0 + evidence.sealed / rollouts)


def _scaled(usage: Usage, factor: float) -> Usage:
    return Usage(
        input_tokens=math.ceil(usage.input_tokens * factor),
        output_tokens=math.ceil(usage.output_tokens * factor),
        verifications=math.ceil(usage.verifications * factor),
        training_steps=math.ceil(usage.training_steps * factor),
    )
