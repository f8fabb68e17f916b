"""From the samples of one process and one shape to a time, or to why there is none; numbers in, a verdict out."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..problem import Variant
from ..report import FailureClass
from . import rules
from .accelerator import ClockReading
from .report import Clocks, Measured, Reason, Refusal
from .statistics import NotATime, Summary, summarise, without_overhead


@dataclass
class Samples:
    """What one process gave for one shape, in microseconds."""

    windows: list[float] = field(default_factory=list[float])
    """By the parent's clock, of timed calls."""
    events: list[float] = field(default_factory=list[float])
    """By the child's word, of the same calls."""
    spans: list[float] = field(default_factory=list[float])
    kernels: list[int] = field(default_factory=list[int])
    """By the child's word, of profiled calls."""
    clocks: list[ClockReading] = field(default_factory=list[ClockReading])


@dataclass(frozen=True)
class Standard:
    """What a shape's samples are held against."""

    variant: Variant
    device: str
    empty: Summary
    """Of the parent's clock, for calls that run nothing."""
    baseline: Summary
    """Without that."""
    floor_us: float


def judge(samples: Samples, standard: Standard, tolerances: rules.Tolerances) -> tuple[Measured | None, list[Reason]]:
    """The time of a shape, and every reason to refuse it; no time where the samples make none."""
    where = f"({standard.variant})"
    try:
        whole = summarise(samples.windows)
        host = without_overhead(whole, standard.empty)
    except NotATime as error:
        return None, [Reason(code=Refusal.NOT_A_TIME, detail=f"{error} {where}")]
    except ValueError as error:
        return None, [Reason(code=Refusal.UNSTEADY, detail=f"{error} {where}")]
    measured = Measured(
        variant=standard.variant,
        device=standard.device,
        median_us=host.median,
        interval_us=(host.low, host.high),
        samples=host.count,
        host_us=whole.median,
        overhead_us=standard.empty.median,
        events_us=statistics.median(samples.events),
        profiler_us=statistics.median(samples.spans) if samples.spans else None,
        kernels=min(samples.kernels, default=0),
        floor_us=standard.floor_us,
        baseline_us=standard.baseline.median,
        clocks=_clocks(samples.clocks),
    )
    return measured, [
        Reason(code=code, detail=f"{detail} {where}") for code, detail in _reasons(measured, host, tolerances)
    ]


def _reasons(
    measured: Measured, host: Summary, tolerances: rules.Tolerances
) -> Iterable[tuple[Refusal | FailureClass, str]]:
    if measured.profiler_us is not None and not measured.kernels:
        yield Refusal.NO_KERNEL, "a profiled call launched no kernel on the device"
    if measured.median_us < measured.floor_us:
        yield (
            FailureClass.IMPOSSIBLE,
            f"{measured.median_us:.1f} us, below the {measured.floor_us:.1f} us that the problem's arithmetic or "
            f"traffic takes on {measured.device}",
        )
    apart = rules.disagreement(host, measured.events_us, measured.profiler_us, measured.kernels, tolerances)
    if apart is not None:
        yield Refusal.CLOCKS_DISAGREE, apart
    wide = rules.unsteady(host, tolerances)
    if wide is not None:
        yield Refusal.UNSTEADY, wide


def suspicious(measured: Measured, tolerances: rules.Tolerances) -> bool:
    """Whether a time must be taken again in a fresh process."""
    return rules.suspicion(measured.median_us, measured.baseline_us, measured.floor_us, tolerances) is not None


def repeated(first: Measured, second: Measured, tolerances: rules.Tolerances) -> Reason | None:
    """Why a time that was taken again isn't the same, or none."""
    if not rules.apart(first.median_us, second.median_us, tolerances):
        return None
    why = rules.suspicion(first.median_us, first.baseline_us, first.floor_us, tolerances) or "suspicious elsewhere"
    detail = (
        f"{first.median_us:.1f} us ({why}), and {second.median_us:.1f} us in a fresh process; they may differ by "
        f"{100 * tolerances.apart:.0f} % ({first.variant})"
    )
    return Reason(code=Refusal.NOT_REPEATABLE, detail=detail)


def _clocks(readings: list[ClockReading]) -> Clocks:
    return Clocks(
        multiprocessor_mhz=_spread([reading.multiprocessor_mhz for reading in readings]),
        memory_mhz=_spread([reading.memory_mhz for reading in readings]),
        throttled=any(reading.throttled for reading in readings),
    )


def _spread(readings: list[int]) -> tuple[int, int]:
    told = [reading for reading in readings if reading]
    return (min(told), max(told)) if told else (0, 0)
