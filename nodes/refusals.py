"""What is always refused: the smallest partial assignments that no accepted output contains.

An output that is a flat JSON object of strings, alone or under one key (`{"schedule": {"stages": "4"}}`), is an
assignment of options to fields. Verdicts of the `verify` tool on such outputs count as evidence too.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from ..core import ToolCall, Trajectory
from .decision import Diagnosis
from .failures import signature

Assignment = frozenset[tuple[str, str]]
"""Field and option pairs."""

REFUSALS = frozenset({Diagnosis.REFUSED, Diagnosis.WRONG, Diagnosis.CRASHED})
"""Failures that an assignment itself can be the cause of."""


@dataclass(frozen=True)
class Attempt:
    """One assignment that was put to the grader or the verifier."""

    trajectory: str
    item: str
    assignment: Assignment
    accepted: bool


@dataclass(frozen=True)
class Refusal:
    """A partial assignment that was refused whenever it was tried."""

    pattern: Assignment
    support: int
    """Attempts that contain it, all of them refused."""
    trajectories: tuple[str, ...]


def assignment_of(output: object) -> Assignment | None:
    """Read an assignment from an output's text or JSON value, or none where it is something else."""
    value = output
    if isinstance(output, str):
        try:
            value = cast(object, json.loads(output))
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict):
        return None
    table = cast(dict[object, object], value)
    if len(table) == 1:
        (inner,) = table.values()
        if isinstance(inner, dict):
            table = cast(dict[object, object], inner)
    if not table or not all(isinstance(option, str) for option in table.values()):
        return None
    return frozenset((str(field), str(option)) for field, option in table.items())


def attempts_of(trajectories: Iterable[Trajectory]) -> list[Attempt]:
    """Every assignment of these trajectories with its verdict: the graded outputs, and what `verify` was asked."""
    found: list[Attempt] = []
    for trajectory in trajectories:
        final = assignment_of(trajectory.output)
        for step in trajectory.steps:
            if isinstance(step, ToolCall) and isinstance(step.result, dict):
                accepted = step.result.get("accepted")
                tried = assignment_of(step.arguments.get("output")) or assignment_of(step.arguments)
                if isinstance(accepted, bool) and tried is not None and tried != final:
                    found.append(Attempt(trajectory.id, trajectory.item, tried, accepted))
        failed = signature(trajectory)
        if final is not None and (failed is None or failed.kind in REFUSALS):
            found.append(Attempt(trajectory.id, trajectory.item, final, failed is None))
    return sorted(found, key=lambda one: (one.trajectory, sorted(one.assignment), one.accepted))


def always_refused(
    attempts: Sequence[Attempt],
    known: Sequence[dict[str, str]] = (),
    *,
    least_support: int = 3,
    largest: int = 3,
    chance: float = 1.0,
    most: int = 6,
) -> list[Refusal]:
    """Mine the partial assignments that explain the most refusals, smallest first.

    Sizes 1 to `largest` in turn: of the patterns that were tried at least `least_support` times and refused every
    time, those that explain the most refusals are taken, and the attempts that they explain are set aside for the next
    size. Patterns that explain the same attempts are all taken, since the data can't tell which is the cause, and
    what was never accepted is no loss. A pattern tried n times counts only if fewer than `chance` patterns of its size
    would be refused that often by luck: with share b of the attempts refused and m patterns tried n times or more,
    m * b**n < chance.

    Args:
        attempts: assignments with their verdicts.
        known: patterns that are forbidden already; attempts that match one are ignored.
        least_support: attempts that must contain a pattern.
        largest: fields in a pattern, at most.
        chance: expected number of patterns of each size that may be found by luck.
        most: patterns of one size, at most.
    """
    forbidden = [frozenset(pattern.items()) for pattern in known]
    # The same assignment at the same item is one observation: a deterministic check says the same again.
    distinct = sorted(
        {(one.item, one.assignment, one.accepted) for one in attempts}, key=lambda one: (one[0], sorted(one[1]), one[2])
    )
    accepted = [assignment for _, assignment, well in distinct if well]
    refused = [
        assignment
        for _, assignment, well in distinct
        if not well and not any(pattern <= assignment for pattern in forbidden)
    ]
    found: list[Refusal] = []
    for size in range(1, largest + 1):
        cleared = {pattern for one in accepted for pattern in _parts(one, size)}
        tried = Counter(pattern for one in [*refused, *accepted] for pattern in _parts(one, size))
        counts = Counter(pattern for one in refused for pattern in _parts(one, size) if pattern not in cleared)
        base = len(refused) / max(1, len(refused) + len(accepted))
        for pattern in sorted(counts, key=lambda pattern: (-counts[pattern], sorted(pattern)))[:most]:
            support = counts[pattern]
            comparisons = sum(1 for count in tried.values() if count >= support)
            if support < least_support or comparisons * base**support >= chance:
                break
            ids = sorted({one.trajectory for one in attempts if not one.accepted and pattern <= one.assignment})
            found.append(Refusal(pattern, support, tuple(ids)))
        refused = [one for one in refused if not any(each.pattern <= one for each in found)]
    return found


def _parts(assignment: Assignment, size: int) -> Iterable[Assignment]:
    return map(frozenset, itertools.combinations(sorted(assignment), size))
