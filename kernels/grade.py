"""Grades a submission's output against the fp64 reference; runs on the trusted side, on bytes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from .problem import KernelProblem, Tolerance, Variant
from .report import FailureClass

if TYPE_CHECKING:
    from .problem import Arrays


def measure(
    problem: KernelProblem, variant: Variant, inputs: "Arrays", output: NDArray[np.generic] | None
) -> dict[str, JsonValue]:
    """Compare one output with the reference.

    Returns:
        The case's sizes, and either `error` ([code, detail]) or `relative_l2`, `largest` (absolute error) and
        `missed` (elements outside the tolerance, a count that must be 0).
    """
    case = _sizes(variant)
    reference = problem.reference(variant, inputs)
    detail: JsonValue = None
    if output is None:
        detail = "no output"
    elif output.dtype != np.float32:
        detail = f"the output's type is {output.dtype}, expected float32"
    elif output.shape != reference.shape:
        detail = f"the output's shape is {list(output.shape)}, expected {list(reference.shape)}"
    elif not np.isfinite(output).all():
        detail = f"{int((~np.isfinite(output)).sum())} of {output.size} values are not finite"
    if detail is not None or output is None:
        case["error"] = [FailureClass.BAD_OUTPUT.value, detail]
        return case
    tolerance = problem.tolerance(variant.precision)
    error = np.abs(output.astype(np.float64) - reference)
    return case | {
        "relative_l2": float(np.linalg.norm(error) / np.linalg.norm(reference)),
        "largest": float(error.max()),
        "missed": int((error > tolerance.atol + tolerance.rtol * np.abs(reference)).sum()),
    }


def failed(variant: Variant, failure: FailureClass, detail: str) -> dict[str, JsonValue]:
    """The case of a run that gave no output: its sizes, and `error`."""
    case = _sizes(variant)
    case["error"] = [failure.value, detail]
    return case


def _sizes(variant: Variant) -> dict[str, JsonValue]:
    return {"variant": str(variant)}


def verdict(case: Mapping[str, JsonValue], tolerance: Tolerance) -> tuple[FailureClass, str] | None:
    """Why a case of `measure` or `failed` fails the contract, or none."""
    where = case["variant"]
    if "error" in case:
        code, detail = cast("list[str]", case["error"])
        return FailureClass(code), f"{detail} ({where})"
    if case["missed"]:
        return FailureClass.WRONG_RESULT, (
            f"{case['missed']} elements differ from the reference by more than {tolerance.atol} + {tolerance.rtol} "
            f"of it, the worst by {case['largest']:.3g} ({where})"
        )
    found = float(str(case["relative_l2"]))
    if found > tolerance.relative_l2:
        return FailureClass.PRECISION, (
            f"the relative L2 error is {found:.2g}, and the contract allows {tolerance.relative_l2:.2g} ({where})"
        )
    return None
