"""Kernel problems, schedules, and the verifier that says what a kernel is worth on an H100 that isn't there.

Importing this loads neither torch nor Triton: they run in the sandbox.
"""

from .device import H100, Device, perturbed
from .problem import Distribution, KernelProblem, Precision, TensorSpec, Tolerance, Variant
from .report import FailureClass, Launch, Report, Status
from .schedule import Schedule, ScheduleField, ScheduleSpace
from .trimul import PROBLEMS, TriMul, find_problem
from .verifier import ShapesReport, Verifier
from .warm import ChildLimits

__all__ = [
    "H100",
    "PROBLEMS",
    "ChildLimits",
    "Device",
    "Distribution",
    "FailureClass",
    "KernelProblem",
    "Launch",
    "Precision",
    "Report",
    "Schedule",
    "ScheduleField",
    "ScheduleSpace",
    "ShapesReport",
    "Status",
    "TensorSpec",
    "Tolerance",
    "TriMul",
    "Variant",
    "Verifier",
    "draw_variants",
    "find_problem",
    "perturbed",
    "render",
]


def draw_variants(seed: int, count: int, start: int = 0, problem: str = "trimul") -> list[Variant]:
    """Assignments `start` to `start + count` of a seed's endless stream."""
    return find_problem(problem).draw(seed, count, start)


def render(schedule: Schedule, problem: str = "trimul") -> str:
    """Write the Triton module of a schedule.

    Raises:
        ConfigurationError: the schedule isn't one of the problem's space.
    """
    return find_problem(problem).render(schedule)
