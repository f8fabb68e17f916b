"""Grades a submission's output against the fp64 reference; runs on the trusted side, on bytes.

    case = measure(problem, variant, inputs, output)
    verdict(case, problem.tolerance(variant.precision))  # none, or the failure and what was found

What one tolerance misses another sees: elements show a wrong tile, the relative error a lower precision than agreed,
the slope an output that is scaled by half a percent, zeros and ones a sum that isn't exact.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from .problem import Distribution, KernelProblem, Sample, Tolerance, Variant
from .report import FailureClass

if TYPE_CHECKING:
    from .problem import Arrays


def half(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to fp16, to nearest even; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float64)


def measure(
    problem: KernelProblem, variant: Variant, inputs: "Arrays", output: NDArray[np.generic] | None
) -> dict[str, JsonValue]:
    """Compare one output with the reference.

    Returns:
        The case's sizes, and either `error` ([code, detail]) or

        - `missed`: elements outside the tolerance, a count that must be 0, and `largest`, the largest absolute error;
        - `relative_l2`: |output - reference| / |reference| in the Euclidean norm;
        - `baseline_l2`: the same of an honest fp16 run; none where fp16 overflows;
        - `slope`: <output, reference> / <reference, reference> - 1;
        - `inexact`: elements that aren't the exact result though their type could hold it, where the problem asks for
          it of zeros and ones; else none.
    """
    case = _sizes(variant)
    reference = problem.reference(variant, inputs)
    wrong = _malformed(problem, variant, reference.shape, output)
    if wrong is not None or output is None:
        case["error"] = [FailureClass.BAD_OUTPUT.value, wrong]
        return case
    return case | _figures(problem, variant, output, reference, problem.reference(variant, inputs, half))


def measure_sample(
    problem: KernelProblem, variant: Variant, sample: Sample, block: NDArray[np.generic] | None
) -> dict[str, JsonValue]:
    """Compare a part of an output with the reference there; as `measure`."""
    case = _sizes(variant)
    shape = tuple(high - low for low, high in sample.block)
    wrong = _malformed(problem, variant, shape, block)
    if wrong is not None or block is None:
        case["error"] = [FailureClass.BAD_OUTPUT.value, wrong]
        return case
    return case | _figures(problem, variant, block[sample.places], sample.reference, sample.baseline)


def _figures(
    problem: KernelProblem,
    variant: Variant,
    output: NDArray[np.generic],
    reference: NDArray[np.float64],
    rounded: NDArray[np.float64],
) -> dict[str, JsonValue]:
    tolerance = problem.tolerance(variant.precision)
    found = output.astype(np.float64)
    error = np.abs(found - reference)
    binary = tolerance.exact_on_binary and variant.distribution is Distribution.BINARY
    baseline = _relative(rounded, reference)
    square = float((reference * reference).sum())
    return {
        "missed": int((error > tolerance.atol + tolerance.rtol * np.abs(reference)).sum()),
        "largest": float(error.max(initial=0.0)),
        "relative_l2": _relative(found, reference),
        "baseline_l2": baseline if np.isfinite(baseline) else None,
        "slope": float((found * reference).sum()) / square - 1 if square else 0.0,
        "inexact": int(((found != reference) & _held(reference, output.dtype)).sum()) if binary else None,
    }


def _malformed(
    problem: KernelProblem, variant: Variant, shape: tuple[int, ...], output: NDArray[np.generic] | None
) -> str | None:
    expected = problem.output(variant).dtype
    if output is None:
        return "no output"
    if str(output.dtype) != expected:
        return f"the output's type is {output.dtype}, expected {expected}"
    if output.shape != shape:
        return f"the output's shape is {list(output.shape)}, expected {list(shape)}"
    if not np.isfinite(output).all():
        return f"{int((~np.isfinite(output)).sum())} of {output.size} values are not finite"
    return None


def _held(values: NDArray[np.float64], dtype: np.dtype[np.generic]) -> NDArray[np.bool_]:
    return values.astype(dtype).astype(np.float64) == values


def _relative(found: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The relative error; the absolute one where the reference is all zeros."""
    with np.errstate(invalid="ignore"):
        return float(np.linalg.norm(found - reference) / (np.linalg.norm(reference) or 1.0))


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
    if tolerance.exact_on_binary and case["inexact"]:
        return FailureClass.WRONG_RESULT, (
            f"{case['inexact']} elements are not exact, on zeros and ones whose sums half precision holds ({where})"
        )
    error, slope = _number(case["relative_l2"]), _number(case["slope"])
    limit, why = tolerance.relative_l2, "the contract allows"
    if tolerance.budget is not None and case["baseline_l2"] is not None:
        budget = max(tolerance.budget * _number(case["baseline_l2"]), tolerance.budget_floor)
        if budget < limit:
            limit, why = budget, f"the contract allows {tolerance.budget:g} times that of an honest fp16 run,"
    if error > limit and slope**2 < error**2 / 2:
        return FailureClass.PRECISION, f"the relative L2 error is {error:.2g}, and {why} {limit:.2g} ({where})"
    if abs(slope) > tolerance.slope:
        return FailureClass.BIAS, (
            f"the output leans: it is {1 + slope:.5f} times the reference, and the contract allows a part in "
            f"{1 / tolerance.slope:.0f} either way ({where})"
        )
    if error > limit:
        return FailureClass.PRECISION, f"the relative L2 error is {error:.2g}, and {why} {limit:.2g} ({where})"
    return None


def _number(value: JsonValue) -> float:
    return float(cast("float", value))
