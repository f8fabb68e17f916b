"""The rules by which a measured time is refused, as functions of numbers alone.

Three clocks must agree: the parent's, the device's events, the profiler's span. The first is the only one that a
submission can't reach; the others are its own process's word, and are compared with the first because a cheat that
moves work out of the sight of one of them has to forge them to fit. A tolerance is the largest of a share of the time,
a constant for launches and round trips, and the interval of the host's own median.

The tolerances are reasoned, not fitted: no device stood behind them.
"""

from dataclasses import dataclass

from .statistics import Summary


@dataclass(frozen=True)
class Tolerances:
    """How far apart measured times may lie."""

    relative: float = 0.10
    """Share of the host's time by which another clock may differ."""
    absolute_us: float = 25.0
    """Launch latency before the first event, the host's wake-up after the last kernel, and the like."""
    profiled_launch_us: float = 4.0
    """What profiling may add to a launch, which shows as gaps in the span of a submission that the host holds up."""
    widest: float = 0.10
    """An interval wider than this share of its median is no measurement, unless it is within `absolute_us`."""
    suspicious_speedup: float = 3.0
    review_factor: float = 2.0
    """A time below this many floors is looked at again: TriMul's usual plan moves about twice its least bytes."""
    apart: float = 0.10
    """A suspicious time and its repetition may differ by this share of the smaller."""


@dataclass(frozen=True)
class Peak:
    """What a device can't exceed, from its datasheet; the floor of a shape follows from it."""

    flops: float
    """Dense half-precision tensor operations a second."""
    bytes: float
    """Bytes a second to memory."""


_PEAKS = (
    ("GH200", Peak(989e12, 4.9e12)),
    ("H200", Peak(989e12, 4.8e12)),
    ("H100", Peak(989e12, 3.9e12)),  # the NVL board, which is faster at memory than the SXM module's 3.35e12
    ("A100", Peak(312e12, 2.04e12)),
    ("B200", Peak(2250e12, 8.0e12)),
)
UNKNOWN = Peak(2500e12, 8.0e12)
"""Of a device that the table doesn't name: more than any of it, so that no honest time lies below its floor."""


def peak_of(device: str) -> Peak:
    """The peak of a device by its name, as the driver tells it, such as `NVIDIA H100 80GB HBM3`."""
    return next((peak for name, peak in _PEAKS if name in device), UNKNOWN)


def floor_us(flops: float, least_bytes: float, peak: Peak) -> float:
    """The roofline: no implementation in half precision or wider takes less, in microseconds."""
    return 1e6 * max(flops / peak.flops, least_bytes / peak.bytes)


def allowed_us(host: Summary, tolerances: Tolerances) -> float:
    """By how much another clock may differ from the host's corrected median."""
    return max(tolerances.relative * host.median, tolerances.absolute_us, host.width)


def disagreement(
    host: Summary, events_us: float, profiler_us: float | None, kernels: int, tolerances: Tolerances
) -> str | None:
    """How the clocks disagree, or none.

    Args:
        host: the parent's clock without the overhead of a call.
        events_us: median of the device's events around the same calls.
        profiler_us: median span of profiled calls, if any.
        kernels: launches in a profiled call.
        tolerances: how far apart they may be.
    """
    allowed = allowed_us(host, tolerances)
    told = f"the host's clock says {host.median:.1f} us"
    if abs(events_us - host.median) > allowed:
        return f"{told}, the device's events say {events_us:.1f} us; they may differ by {allowed:.1f} us"
    if profiler_us is None:
        return None
    if profiler_us < host.median - allowed:
        return f"{told}, the profiler saw kernels for {profiler_us:.1f} us; {allowed:.1f} us may go unseen"
    allowed += tolerances.profiled_launch_us * kernels
    if profiler_us > host.median + allowed:
        return f"{told}, the profiler saw kernels for {profiler_us:.1f} us; they may differ by {allowed:.1f} us"
    return None


def unsteady(host: Summary, tolerances: Tolerances) -> str | None:
    """Why a median says too little, or none."""
    allowed = max(tolerances.widest * host.median, tolerances.absolute_us)
    if host.width <= allowed:
        return None
    return f"the median of {host.median:.1f} us lies between {host.low:.1f} and {host.high:.1f} us, too wide a range"


def suspicion(median_us: float, baseline_us: float, floor: float, tolerances: Tolerances) -> str | None:
    """Why a time must be taken again in a fresh process, or none."""
    if baseline_us > tolerances.suspicious_speedup * median_us:
        return f"{baseline_us / median_us:.1f} times as fast as the baseline"
    if median_us < tolerances.review_factor * floor:
        return f"within {tolerances.review_factor:g} times the floor of {floor:.1f} us"
    return None


def apart(first_us: float, second_us: float, tolerances: Tolerances) -> bool:
    """Whether two measurements of the same differ by more than may be."""
    return abs(first_us - second_us) > max(tolerances.apart * min(first_us, second_us), tolerances.absolute_us)
