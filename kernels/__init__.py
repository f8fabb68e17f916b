"""Kernel problems, schedules, and the verifier that says what a kernel is worth on an H100 that isn't there.

Importing this loads neither torch nor Triton: they run in the sandbox. Names are loaded on first use: transformers
looks for a top-level package `kernels`, from the repository's root finds this folder, and must be able to import it to
no effect.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "find_problem",
    "perturbed",
]

_WHERE = {
    "ChildLimits": "warm",
    "Device": "device",
    "Distribution": "problem",
    "FailureClass": "report",
    "H100": "device",
    "KernelProblem": "problem",
    "Launch": "report",
    "PROBLEMS": "trimul",
    "Precision": "problem",
    "Report": "report",
    "Schedule": "schedule",
    "ScheduleField": "schedule",
    "ScheduleSpace": "schedule",
    "ShapesReport": "verifier",
    "Status": "report",
    "TensorSpec": "problem",
    "Tolerance": "problem",
    "TriMul": "trimul",
    "Variant": "problem",
    "Verifier": "verifier",
    "find_problem": "trimul",
    "perturbed": "device",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
