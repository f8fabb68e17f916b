"""Reports with times that a device took, in place of estimated ones.

    reports = [await verifier.verify(source, variant) for variant in variants]
    reports = await measured_reports(source, variants, reports, problem, default_sandbox())    # basis "measured"

A verdict comes first: what a verification rejects is not measured. docs/measured.md says what a measured time rests on.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core import PawlError
from ..safety.sandbox import Sandbox
from .problem import KernelProblem, Variant
from .report import Report, Status
from .submission import completed, importable

if TYPE_CHECKING:
    from .measure import Accelerator, MeasureReport, MeasureSettings, Standard


class DeviceFailed(PawlError):
    """The device, or its driver, failed in this process; nothing can be said of the submission."""


async def measured_reports(
    source: str,
    variants: Sequence[Variant],
    reports: Sequence[Report],
    problem: KernelProblem,
    sandbox: Sandbox,
    *,
    accelerator: "Accelerator | None" = None,
    settings: "MeasureSettings | None" = None,
    standards: "Sequence[Standard] | None" = None,
) -> list[Report]:
    """Measure a source that a verification has accepted.

    Args:
        source: the submission, as it was verified.
        variants: what it was verified on.
        reports: of the verification, one a variant.
        problem: theirs.
        sandbox: where the processes run.
        accelerator: the device; the first CUDA device if none.
        settings: how long and how much.
        standards: what times are held against, where they were taken shortly before (`take_standards`).

    Returns:
        The reports with times of the device. Where a report is a rejection, all as they were; where the measurement
        refuses the submission, all rejected, with the refusal's codes.

    Raises:
        NoDevice: there is no device.
        DeviceFailed: the device fails.
        BaselineFailed: the problem's seed kernel can't be timed.
        SandboxUnavailable: a process doesn't start.
    """
    from .measure import measure, open_accelerator

    device = accelerator or open_accelerator()
    if not all(report.accepted for report in reports):
        return list(reports)
    try:
        told = await measure(
            completed(problem, source),
            variants,
            problem,
            sandbox,
            accelerator=device,
            settings=settings,
            standards=standards,
            modules=importable(problem),
        )
    except (OSError, RuntimeError) as error:  # of the driver and of torch, in this process
        raise DeviceFailed(
            f"{device.name} failed during the measurement: {error}. See that nothing else uses it, and try again, or "
            "take estimated times."
        ) from error
    if not told.accepted:
        return [_refused(report, told) for report in reports]
    return [
        report.model_copy(
            update={
                "basis": told.basis,
                "device": told.device,
                "time_us": shape.median_us,
                "interval_us": shape.interval_us,
                "floor_us": shape.floor_us,
                "baseline_us": shape.baseline_us,
                "crude_us": None,
                "perturbed_us": [],
            }
        )
        for report, shape in zip(reports, told.shapes, strict=True)
    ]


def _refused(report: Report, told: "MeasureReport") -> Report:
    return Report(
        status=Status.REJECTED,
        failure_class=told.reasons[0].code,
        reasons=[str(reason) for reason in told.reasons],
        correctness=report.correctness,
        floor_us=report.floor_us,
        basis=told.basis,
        device=told.device,
    )
