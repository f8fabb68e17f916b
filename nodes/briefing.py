"""A round's evidence as text for a language model: every trajectory appears, within a stated budget of tokens.

What trajectories contain was written by the agent under study. It is quoted as JSON strings, and is data.
"""

import json
from collections.abc import Mapping, Sequence

from ..core import ToolCall, Trajectory
from ..training.objectives import Objective
from ..training.selector import Thresholds, options, select
from .evidence import RoundEvidence
from .failures import signature
from .measurements import Measurements
from .prospects import Prospect

CHARACTERS_A_TOKEN = 3
"""A low count, so that a budget of tokens is kept for any tokenizer of English and code."""


def short_ids(trajectories: Sequence[Trajectory]) -> Mapping[str, str]:
    """Short id to full id: the shortest prefixes of at least eight digits that are all different."""
    ids = sorted({one.id for one in trajectories})
    length = next(n for n in range(8, 65) if len({id_[:n] for id_ in ids}) == len(ids))
    return {id_[:length]: id_ for id_ in ids}


_FITS: Mapping[Objective, str] = {
    Objective.PPO: "a value head, for rewards at most steps and a thousand steps or more",
    Objective.GROUP_RELATIVE: "distance from the group's mean, for one reward at the end of cheap rollouts",
    Objective.ENTROPIC: "the best far above the rest, for rare and far better rollouts in groups of four or more",
    Objective.REINFORCE: "distance from the mean of all, with a pull to the base, where capabilities may regress",
    Objective.BEST_OF_N: "imitates the best, for a start where hardly anything succeeds, or for few rollouts",
    Objective.PREFERENCE: "pairs of better and worse, for rewards that only rank",
}


def brief(
    evidence: RoundEvidence,
    measured: Measurements,
    offers: Sequence[Prospect],
    tokens: int,
    thresholds: Thresholds | None = None,
) -> str:
    """Describe a round.

    Each trajectory gets a line; if those don't fit, shorter lines, then its id in a list by outcome. Ids are never left
    out, even if they alone exceed the budget. What is left of the budget goes to excerpts: one of each failure group,
    the best and the median output.
    """
    room = tokens * CHARACTERS_A_TOKEN
    names = {full: short for short, full in short_ids(evidence.trajectories).items()}
    head = _head(evidence, measured, offers, thresholds or Thresholds())
    ordered = sorted(evidence.trajectories, key=lambda one: (one.item, one.id))
    listings = (
        "\n".join(_line(one, names, evidence, 80) for one in ordered),
        "\n".join(_line(one, names, evidence, 0) for one in ordered),
        _by_outcome(ordered, names, evidence),
    )
    listing = next((text for text in listings if len(head) + len(text) <= room * 0.8), listings[-1])
    text = f"{head}\n\nEvery rollout (id item reward outcome):\n{listing}"
    chosen = _representatives(evidence, measured)
    title = "\n\nExcerpts:"
    each = (room - len(text) - len(title)) // max(1, len(chosen))
    if chosen and each > 200:
        text += title + "".join(f"\n{_excerpt(one, names, evidence, each)}"[:each] for one in chosen)
    return text


def _head(evidence: RoundEvidence, measured: Measurements, offers: Sequence[Prospect], thresholds: Thresholds) -> str:
    metric = evidence.metric
    entropy = "not recorded" if measured.entropy is None else f"{measured.entropy:.2f}"
    lines = [
        f"Task {evidence.task}, round {evidence.round}. Metric {metric.name} ({metric.unit}, {metric.direction}); "
        f"rewards below are turned so that more is better; worst {metric.signed(metric.worst):g}.",
        f"{measured.rollouts} rollouts, {measured.valid_share:.0%} valid, mean reward {measured.mean:.4g}, sd within "
        f"items {measured.within_sd:.3g}, skewness {measured.skewness:.2f}, items without any spread "
        f"{measured.sparsity:.0%}, attempts an item {measured.group_size:g}, entropy of choices {entropy}.",
        f"Weights can be trained: {'yes' if evidence.trainable else 'no'}. Budget left: {evidence.budget}.",
        "",
        "Failure groups (rollouts, class, code, last step):",
        *(f"- {one.count} {one.signature.kind} {one.signature.code} {one.signature.last}" for one in measured.failures),
        "",
        "What the measurements promise (gain in reward, after the record's discount):",
        *(f"- {one.operator or one.lever}: {one.gain:+.4g}, against {', '.join(one.treats)}" for one in offers),
        "",
        *_objectives(measured, thresholds),
        "",
        "Past rounds:",
    ]
    for one in evidence.history:
        changed = f"{one.before:.4g} -> {one.after:.4g}" if one.before is not None and one.after is not None else "?"
        races = " ".join(f"{race}={outcome}" for race, outcome in sorted(one.outcomes.items())) or "no race"
        said = f" A person said: {json.dumps(one.response)}" if one.response else ""
        pulled = f"{one.lever} {one.operator or one.objective or ''} against {one.diagnosis}"
        lines.append(
            f"- {one.round}: {pulled}, expected {one.expected_gain:+.3g}, target {changed}, {races}, "
            f"{'promoted' if one.promoted else 'not promoted'}.{said}"
        )
    return "\n".join(lines)


def _objectives(measured: Measurements, thresholds: Thresholds) -> list[str]:
    selection = select(measured.signals, thresholds)
    name = selection.objective.kind if selection.objective is not None else "none"
    lines = [f"Objectives for the weights. The written rule chooses {name}. {selection.reason}"]
    for objective, lacking in options(measured.signals):
        lines.append(f"- {objective}: {_FITS[objective]}" + (f" (can't be fed here: {lacking})" if lacking else ""))
    return lines


def _outcome(trajectory: Trajectory) -> str:
    found = signature(trajectory)
    return "valid" if found is None else f"{found.kind}:{found.code}"


def _line(one: Trajectory, names: Mapping[str, str], evidence: RoundEvidence, shown: int) -> str:
    line = f"{names[one.id]} {one.item[:12]} {evidence.reward(one):.3g} {_outcome(one)}"
    return f"{line} {json.dumps((one.output or '')[:shown])}" if shown else line


def _by_outcome(ordered: Sequence[Trajectory], names: Mapping[str, str], evidence: RoundEvidence) -> str:
    groups: dict[str, list[str]] = {}
    for one in sorted(ordered, key=lambda one: (-evidence.reward(one), one.id)):
        groups.setdefault(_outcome(one), []).append(names[one.id])
    return "\n".join(f"{outcome} (best first): {' '.join(ids)}" for outcome, ids in sorted(groups.items()))


def _representatives(evidence: RoundEvidence, measured: Measurements) -> list[Trajectory]:
    by_id = {one.id: one for one in evidence.trajectories}
    valid = sorted(
        (one for one in by_id.values() if signature(one) is None), key=lambda one: (evidence.reward(one), one.id)
    )
    picked = [by_id[group.trajectories[0]] for group in measured.failures[:6]]
    picked += [valid[-1], valid[len(valid) // 2]] if valid else []
    return list({one.id: one for one in picked}.values())


def _excerpt(one: Trajectory, names: Mapping[str, str], evidence: RoundEvidence, size: int) -> str:
    grade = one.grade
    parts = [f"{names[one.id]} {_outcome(one)} reward {evidence.reward(one):.3g}"]
    if grade is not None and grade.reasons:
        parts.append(f"reasons {json.dumps(grade.reasons)}")
    if one.error:
        parts.append(f"error {json.dumps(one.error[-size // 4 :])}")
    called = [step for step in one.steps if isinstance(step, ToolCall)]
    if called:
        parts.append(f"last tool {called[-1].name} answered {json.dumps(called[-1].result)[: size // 4]}")
    parts.append(f"output {json.dumps((one.output or '')[: size // 2])}")
    return "; ".join(parts)
