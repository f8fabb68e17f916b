"""The verdict on one source over several shapes, in the form in which programs get it.

reports = [await verifier.verify(source, variant) for variant in variants]
print(summarise(problem, variants, reports).model_dump_json())
"""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, JsonValue

from .grade import verdict
from .problem import KernelProblem, Variant
from .report import Report, Status


class Time(BaseModel):
    """Times by shape; shapes are named by their parameters."""

    model_config = ConfigDict(frozen=True)

    basis: str
    """`estimated`, or `measured` on the device."""
    device: str
    geomean_us: float | None
    """Over all shapes; none if one of them has no time, or nothing to do."""
    per_shape: dict[str, float]
    interval_us: dict[str, tuple[float, float]]
    floor_us: dict[str, float]
    """What the problem's arithmetic and traffic take at least."""


class Summary(BaseModel):
    """What is known of a source."""

    model_config = ConfigDict(frozen=True)

    status: Status
    reasons: list[str]
    """Each begins with its code."""
    correctness: dict[str, JsonValue]
    """`cases` that were graded, how many of them `passed`, and the `worst_relative_l2` of those that gave an output."""
    resources: dict[str, dict[str, int]]
    """By kernel: the most registers, shared bytes, spilled bytes and warps that it takes at any shape."""
    time: Time


def summarise(problem: KernelProblem, variants: Sequence[Variant], reports: Sequence[Report]) -> Summary:
    """Join the reports of one source, one a variant; it is accepted if all of them are."""
    names = [str(variant) for variant in variants]
    reasons = list(dict.fromkeys(reason for report in reports for reason in report.reasons))
    times = {n: r.time_us for n, r in zip(names, reports, strict=True) if r.accepted and r.time_us is not None}
    spread = {n: r.interval_us for n, r in zip(names, reports, strict=True) if r.accepted and r.interval_us is not None}
    whole = len(times) == len(reports) > 0 and min(times.values()) > 0
    return Summary(
        status=Status.ACCEPTED if all(report.accepted for report in reports) else Status.REJECTED,
        reasons=reasons,
        correctness=_correctness(problem, variants, reports),
        resources=_resources(reports),
        time=Time(
            basis=reports[0].basis,
            device=reports[0].device,
            geomean_us=math.exp(math.fsum(map(math.log, times.values())) / len(times)) if whole else None,
            per_shape=times,
            interval_us=spread,
            floor_us={name: report.floor_us for name, report in zip(names, reports, strict=True)},
        ),
    )


def _correctness(
    problem: KernelProblem, variants: Sequence[Variant], reports: Sequence[Report]
) -> dict[str, JsonValue]:
    """Of the report with the most cases: the small ones are the same in all, some have further ones."""
    variant, report = max(zip(variants, reports, strict=True), key=lambda pair: len(pair[1].correctness))
    cases = report.correctness
    tolerance = problem.tolerance(variant.precision)
    errors = [error for case in cases if isinstance(error := case.get("relative_l2"), float)]
    return {
        "cases": list[JsonValue](cases),
        "passed": sum(verdict(case, tolerance) is None for case in cases),
        "worst_relative_l2": max(errors, default=None),
    }


def _resources(reports: Sequence[Report]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for report in reports:
        for launch in report.launches:
            if launch.programs:
                known = found.setdefault(launch.kernel, {})
                known |= {name: max(value, known.get(name, 0)) for name, value in launch.resources.items()}
    return found
