"""Kernel problems, schedules, and the verifier that says what a kernel is worth on an H100 that isn't there.

Importing this loads neither torch nor Triton: they run in the sandbox. Names are loaded on first use: transformers
looks for a top-level package `kernels`, from the repository's root finds this folder, and must be able to import it to
no effect.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model.device import H100, Device, perturbed
    from .problem import Distribution, KernelProblem, Precision, TensorSpec, Tolerance, TritonRule, Variant
    from .problems import PROBLEMS, find_problem
    from .problems.trimul import TriMul, trimul_variant
    from .report import FailureClass, Launch, Report, Status
    from .schedule import Schedule, ScheduleField, ScheduleSpace
    from .verifier import ShapesReport, Verifier, part_is_cheap
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
    "TritonRule",
    "Variant",
    "Verifier",
    "find_problem",
    "part_is_cheap",
    "perturbed",
    "trimul_variant",
]

_WHERE = {
    "ChildLimits": "warm",
    "Device": "model.device",
    "Distribution": "problem",
    "FailureClass": "report",
    "H100": "model.device",
    "KernelProblem": "problem",
    "Launch": "report",
    "PROBLEMS": "problems",
    "Precision": "problem",
    "Report": "report",
    "Schedule": "schedule",
    "ScheduleField": "schedule",
    "ScheduleSpace": "schedule",
    "ShapesReport": "verifier",
    "Status": "report",
    "TensorSpec": "problem",
    "Tolerance": "problem",
    "TritonRule": "problem",
    "TriMul": "problems.trimul",
    "Variant": "problem",
    "Verifier": "verifier",
    "find_problem": "problems",
    "part_is_cheap": "verifier",
    "perturbed": "model.device",
    "trimul_variant": "problems.trimul",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
