"""What measuring a submission on a device gives: frozen, one `Measured` a shape, and why it was refused if it was."""

from pydantic import BaseModel, ConfigDict, JsonValue

from ..problem import Variant
from ..report import FailureClass, Refusal, Status


class Clocks(BaseModel):
    """The device's clocks over the timed calls of one shape, as NVML tells them; zeros where it tells nothing."""

    model_config = ConfigDict(frozen=True)

    multiprocessor_mhz: tuple[int, int] = (0, 0)
    """Lowest and highest."""
    memory_mhz: tuple[int, int] = (0, 0)
    throttled: bool = False
    """Whether the device said at any of them that heat or power held it back."""


class Measured(BaseModel):
    """The time of one shape; all in microseconds, every figure but events and span taken by the parent."""

    model_config = ConfigDict(frozen=True)

    variant: Variant
    device: str
    median_us: float
    """What counts: the host clock's median without what an empty call takes."""
    interval_us: tuple[float, float]
    """95 % interval of that median, from order statistics of both."""
    samples: int
    host_us: float
    """Median of the parent's clock, from handing out the inputs to holding the output."""
    overhead_us: float
    """Median of the same for a call that runs nothing of the submission."""
    events_us: float
    """Median of the device's events around `custom_kernel`; the child's word."""
    profiler_us: float | None
    """Median span from the first kernel's start to the last one's end in profiled calls; the child's word."""
    kernels: int
    """Launches in a profiled call."""
    floor_us: float
    """No implementation is faster on this device."""
    baseline_us: float
    """The baseline's median, taken in a process of its own before."""
    clocks: Clocks

    @property
    def speedup(self) -> float:
        """Over the baseline."""
        return self.baseline_us / self.median_us


class Reason(BaseModel):
    """Why a submission was refused."""

    model_config = ConfigDict(frozen=True)

    code: Refusal | FailureClass
    detail: str

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class MeasureReport(BaseModel):
    """One source over several shapes."""

    model_config = ConfigDict(frozen=True)

    status: Status
    reasons: tuple[Reason, ...] = ()
    device: str
    basis: str = "measured"
    seed: int
    """Of inputs, order and number of calls; drawn afresh for each measurement, told afterwards."""
    shapes: tuple[Measured, ...] = ()
    """In the order of the variants; of a refused submission, those that were timed."""
    geomean_us: float | None = None
    """None unless every shape has an accepted time."""
    rerun_us: float | None = None
    """The same from the fresh process in which a suspicious time was taken again."""

    @property
    def accepted(self) -> bool:
        """Whether the times may be used."""
        return self.status is Status.ACCEPTED

    def time(self) -> dict[str, JsonValue]:
        """As `time` stands in the JSON of a verification, beside estimated ones."""
        return {
            "basis": self.basis,
            "device": self.device,
            "geomean_us": self.geomean_us,
            "per_shape": {str(shape.variant): shape.median_us for shape in self.shapes},
            "interval_us": {str(shape.variant): list(shape.interval_us) for shape in self.shapes},
            "floor_us": {str(shape.variant): shape.floor_us for shape in self.shapes},
            "baseline_us": {str(shape.variant): shape.baseline_us for shape in self.shapes},
        }
