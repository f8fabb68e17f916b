"""The typed operators: from a scaffold's typed part to changed ones, the most promising first."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from ..core import canonical_json
from ..evals.scaffold import Exemplar, ScaffoldConfig
from .decision import Diagnosis, Operator
from .evidence import RoundEvidence
from .failures import failure_class
from .measurements import Measurements
from .refusals import assignment_of

MOST_EXEMPLARS = 2
"""Each makes every prompt longer."""
MOST_SAMPLES = 16
MOST_REPAIRS = 8
MOST_PRUNED = 64
COOLEST, WARMEST = 0.2, 1.6
COOLING = 0.8
"""Factor of the temperature; warming divides by it."""
LESSONS, FORM = "z_lessons", "z_form"
"""Prompt parts that the editor writes; parts are rendered in the order of their names, so these come last."""


@dataclass(frozen=True)
class Proposal:
    """A changed typed part, and what was done in a line."""

    config: ScaffoldConfig
    summary: str


def proposals(
    operator: Operator, config: ScaffoldConfig, evidence: RoundEvidence, measured: Measurements
) -> Iterator[Proposal]:
    """Every way in which an operator can change this configuration; none where it doesn't apply."""
    apply = _OPERATORS.get(operator)
    if apply is not None:
        yield from (proposal for proposal in apply(config, evidence, measured) if proposal.config != config)


def _prune(config: ScaffoldConfig, _evidence: RoundEvidence, measured: Measurements) -> Iterator[Proposal]:
    room = MOST_PRUNED - len(config.pruned)
    patterns = [dict(sorted(refusal.pattern)) for refusal in measured.refusals][: max(0, room)]
    while patterns:
        spoken = "; ".join(" & ".join(f"{field}={option}" for field, option in one.items()) for one in patterns)
        yield Proposal(
            config.model_copy(update={"pruned": [*config.pruned, *patterns]}),
            f"Never complete what was refused every time it was tried: {spoken}.",
        )
        patterns = patterns[: len(patterns) // 2]


def _exemplars(config: ScaffoldConfig, evidence: RoundEvidence, _measured: Measurements) -> Iterator[Proposal]:
    told = _distinctive(evidence)
    pool = {(canonical_json(one.payload), one.output): one for one in config.exemplars}
    for trajectory in [*evidence.trajectories, *evidence.earlier]:
        grade, payload = trajectory.grade, told.get(trajectory.item)
        if failure_class(trajectory) is None and grade is not None and payload is not None and trajectory.output:
            one = Exemplar(payload=payload, output=trajectory.output, grade=grade.value)
            pool.setdefault((canonical_json(payload), one.output), one)
    ranked = sorted(pool.items(), key=lambda entry: (-evidence.metric.signed(entry[1].grade), entry[0]))
    best: list[Exemplar] = []
    for _, one in ranked:  # different items and different outputs, so that each exemplar adds something
        if all(one.payload != other.payload and one.output != other.output for other in best):
            best.append(one)
    for count in (len(config.exemplars) + 1, len(config.exemplars)):
        if 0 < count <= min(MOST_EXEMPLARS, len(best)):
            yield Proposal(
                config.model_copy(update={"exemplars": best[:count]}), f"Show the {count} best outputs so far."
            )


def _distinctive(evidence: RoundEvidence) -> Mapping[str, dict[str, JsonValue]]:
    """Payloads without the entries that are the same for every item: those say nothing about one of them."""
    payloads = [canonical_json(one) for one in evidence.payloads.values()]
    if len(set(payloads)) < 2:
        return evidence.payloads
    first = next(iter(evidence.payloads.values()))
    same = {key for key in first if all(one.get(key) == first[key] for one in evidence.payloads.values())}
    return {
        item: {key: value for key, value in one.items() if key not in same} for item, one in evidence.payloads.items()
    }


def _samples(config: ScaffoldConfig, _evidence: RoundEvidence, _measured: Measurements) -> Iterator[Proposal]:
    if config.samples < MOST_SAMPLES:
        more = config.samples + 1
        yield Proposal(config.model_copy(update={"samples": more}), f"Draw {more} answers and keep the best.")


def _repairs(config: ScaffoldConfig, _evidence: RoundEvidence, _measured: Measurements) -> Iterator[Proposal]:
    if config.repairs < MOST_REPAIRS:
        more = config.repairs + 1
        yield Proposal(config.model_copy(update={"repairs": more}), f"Draw again up to {more} times after a refusal.")


def _lighter(config: ScaffoldConfig, _evidence: RoundEvidence, _measured: Measurements) -> Iterator[Proposal]:
    if config.samples > 1:
        fewer = config.samples - 1
        yield Proposal(config.model_copy(update={"samples": fewer}), f"Draw {fewer} answers, to end in time.")
    if config.repairs > 0:
        fewer = config.repairs - 1
        yield Proposal(config.model_copy(update={"repairs": fewer}), f"Repair {fewer} times at most, to end in time.")


def _cooler(config: ScaffoldConfig, _evidence: RoundEvidence, _measured: Measurements) -> Iterator[Proposal]:
    yield from _temperature(config, COOLING)


def _warmer(config: ScaffoldConfig, _evidence: RoundEvidence, _measured: Measurements) -> Iterator[Proposal]:
    yield from _temperature(config, 1 / COOLING)


def _temperature(config: ScaffoldConfig, factor: float) -> Iterator[Proposal]:
    for power in (1, 2):
        new = round(config.temperature * factor**power, 4)
        if COOLEST <= new <= WARMEST:
            yield Proposal(
                config.model_copy(update={"temperature": new}),
                f"Sample at temperature {new}, was {config.temperature}.",
            )


def _prompt(config: ScaffoldConfig, evidence: RoundEvidence, measured: Measurements) -> Iterator[Proposal]:
    parts: dict[str, str] = {}
    kinds = {group.signature.kind for group in measured.failures}
    if Diagnosis.MALFORMED in kinds:
        parts[FORM] = _form(evidence)
    codes = Counter[str]()
    for group in measured.failures:
        if group.signature.kind in (Diagnosis.REFUSED, Diagnosis.WRONG):
            codes[group.signature.code] += group.count
    if codes:
        named = ", ".join(code for code, _ in sorted(codes.items(), key=lambda entry: (-entry[1], entry[0]))[:3])
        parts[LESSONS] = f"Avoid: {named}."
    wanted = {name: text for name, text in parts.items() if text}
    for chosen in (wanted, *({name: text} for name, text in sorted(wanted.items()))):
        if chosen:
            yield Proposal(
                config.model_copy(update={"prompt": {**config.prompt, **chosen}}),
                "Tell the model: " + " ".join(chosen[name] for name in sorted(chosen)),
            )


def _form(evidence: RoundEvidence) -> str:
    accepted = sorted(
        (one for one in [*evidence.trajectories, *evidence.earlier] if failure_class(one) is None and one.output),
        key=lambda one: (-evidence.reward(one), one.id),
    )
    if not accepted or accepted[0].output is None:
        return "Answer in exactly the form that is asked for, and nothing else."
    output = accepted[0].output
    if assignment_of(output) is not None:
        return f"Answer with JSON and nothing else, like: {json.dumps(json.loads(output))}"
    first = output.strip().splitlines()[0][:80]
    return f"Answer in this form and nothing else; a good answer began: {first}"


_OPERATORS: Mapping[Operator, Callable[[ScaffoldConfig, RoundEvidence, Measurements], Iterator[Proposal]]] = {
    Operator.PRUNE: _prune,
    Operator.EXEMPLARS: _exemplars,
    Operator.SAMPLES: _samples,
    Operator.REPAIRS: _repairs,
    Operator.LIGHTER: _lighter,
    Operator.COOLER: _cooler,
    Operator.WARMER: _warmer,
    Operator.PROMPT: _prompt,
}
