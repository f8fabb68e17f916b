"""Failure signatures: a deterministic class and code for each trajectory, read from its stop and its grade.

A class says which levers can help; a code (`shared-memory`, `wrong-result`) is the grader's own word for it.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from ..core import Grade, ModelCall, RolloutStop, ToolCall, Trajectory
from .decision import Diagnosis

_BY_STOP = {
    RolloutStop.NO_OUTPUT: Diagnosis.MALFORMED,
    RolloutStop.CRASHED: Diagnosis.CRASHED,
    RolloutStop.TIMED_OUT: Diagnosis.TIMED_OUT,
    RolloutStop.OUTPUT_LIMIT: Diagnosis.OVERFLOWED,
    RolloutStop.MODEL_FAILED: Diagnosis.MODEL_FAILED,
}
_BY_WORD = (
    (Diagnosis.CRASHED, ("crash", "signal", "runtime-error", "timeout", "timed-out")),
    (Diagnosis.WRONG, ("wrong", "precision", "mismatch", "incorrect", "not-finite", "nonfinite")),
    (
        Diagnosis.MALFORMED,
        (
            "syntax",
            "bad-output",
            "no-output",
            "malformed",
            "no-custom-kernel",
            "no-triton-kernel",
            "unknown",
            "bad-form",
        ),
    ),
)
"""Words of a grader's code that tell its class; a code with none of them is a refusal."""


class Signature(BaseModel):
    """What went wrong, and where: equal for trajectories that failed the same way.

    The code is the grade's `details["failure_class"]`, or its first reason.
    """

    model_config = ConfigDict(frozen=True)

    kind: Diagnosis
    code: str
    last: str
    """The last step: a tool's name, `model`, or `start`."""


class FailureGroup(BaseModel):
    """The trajectories of a round that share a signature."""

    model_config = ConfigDict(frozen=True)

    signature: Signature
    count: int
    share: float
    """Of all rollouts of the round, failed or not."""
    trajectories: list[str]
    """Their ids, sorted."""


def failure_class(trajectory: Trajectory) -> Diagnosis | None:
    """The class of a trajectory's failure, or none where its grade is valid."""
    found = signature(trajectory)
    return None if found is None else found.kind


def signature(trajectory: Trajectory) -> Signature | None:
    """The signature of a trajectory's failure, or none where its grade is valid."""
    grade = trajectory.grade
    if grade is not None and grade.valid:
        return None
    if trajectory.stop in _BY_STOP:
        kind, code = _BY_STOP[trajectory.stop], trajectory.stop.value.replace("_", "-")
    else:
        code = _code(grade)
        kind = _class_of(code)
    return Signature(kind=kind, code=code, last=_last_step(trajectory))


def failure_groups(trajectories: Sequence[Trajectory]) -> list[FailureGroup]:
    """Group the failed trajectories by signature, the largest group first."""
    ids: dict[Signature, list[str]] = {}
    for trajectory in trajectories:
        found = signature(trajectory)
        if found is not None:
            ids.setdefault(found, []).append(trajectory.id)
    groups = [
        FailureGroup(signature=found, count=len(members), share=len(members) / len(trajectories), trajectories=members)
        for found, members in ((found, sorted(members)) for found, members in ids.items())
    ]
    return sorted(groups, key=lambda group: (-group.count, group.signature.model_dump_json()))


def _code(grade: Grade | None) -> str:
    if grade is None:
        return "ungraded"
    named = grade.details.get("failure_class")
    code = named if isinstance(named, str) else grade.reasons[0] if grade.reasons else "invalid"
    return code.lower().replace("_", "-")[:60]


def _class_of(code: str) -> Diagnosis:
    for kind, words in _BY_WORD:
        if any(word in code for word in words):
            return kind
    return Diagnosis.REFUSED


def _last_step(trajectory: Trajectory) -> str:
    for step in reversed(trajectory.steps):
        if isinstance(step, ToolCall):
            return step.name
        if isinstance(step, ModelCall):
            return "model"
    return "start"
