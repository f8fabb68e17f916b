"""What a verification says."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, JsonValue


class Status(StrEnum):
    """Whether a kernel may be used."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class FailureClass(StrEnum):
    """Why a kernel was rejected; one, the first that was found."""

    SYNTAX_ERROR = "syntax-error"
    NO_CUSTOM_KERNEL = "no-custom-kernel"
    NO_TRITON_KERNEL = "no-triton-kernel"
    IMPORT_ERROR = "import-error"
    """It raises as it is imported."""
    CRASH = "crash"
    EXITED = "exited"
    """Its process ends, with whatever status, before it has answered."""
    FORKED = "forked"
    """It starts processes."""
    TOO_MUCH_OUTPUT = "too-much-output"
    """It floods its standard output or error."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    BAD_OUTPUT = "bad-output"
    """Not one tensor of the right type and shape with finite values."""
    WRONG_RESULT = "wrong-result"
    PRECISION = "precision"
    """Right to the public tolerance, but over the contract's relative error."""
    INPUT_CHANGED = "input-changed"
    OUT_OF_BOUNDS = "out-of-bounds"
    RACE = "race"
    """Another order of its programs gives another result."""
    DECOY = "decoy-kernel"
    """Without that kernel's launches the output is the same."""
    TORCH_SHARE = "torch-share"
    """Too little of the work happens in Triton."""
    LESS_WORK = "less-work"
    """At the variant's size it multiplies, reads or writes less than the problem takes."""
    UNTRACED_DATA = "untraced-data"
    """Values that come of no input, no torch operator and no kernel."""
    READS_VALUES = "reads-values"
    """What its host code does depends on values of large tensors."""
    UNSUPPORTED_OPERATOR = "unsupported-operator"
    UNSUPPORTED_KERNEL = "unsupported-kernel"
    """A kernel's body says what isn't of the kernel language."""
    TOO_MANY_STEPS = "too-many-steps"
    BIAS = "bias"
    """Scaled: its errors lean one way, as rounding doesn't."""
    UNSUPPORTED_ARGUMENT = "unsupported-argument"
    NOT_COUNTABLE = "not-countable"
    COMPILE_ERROR = "compile-error"
    SHARED_MEMORY = "shared-memory"
    REGISTERS = "registers"
    SPILLS = "spills"
    UNCHECKED = "unchecked"
    """At the variant's size it runs other kernels or operators than in any run whose output was checked."""
    IMPOSSIBLE = "impossible"
    """Estimated below what the arithmetic and the traffic of the problem allow: some work was left out."""


class Refusal(StrEnum):
    """Why an accepted submission gets no measured time; what its output was is a `FailureClass`."""

    CLOCKS_DISAGREE = "clocks-disagree"
    """Host clock, device events and profiler span tell of different times: work was hidden from one of them."""
    LATE_WRITE = "late-write"
    """The output changed after the call that gave it had ended."""
    NO_KERNEL = "no-kernel"
    """A profiled call launched nothing on the device."""
    NOT_A_TIME = "not-a-time"
    """A time that isn't a positive, finite number."""
    UNSTEADY = "unsteady"
    """Fewer samples than an interval takes, or an interval that is wider than may be."""
    NOT_REPEATABLE = "not-repeatable"
    """A suspicious time that a fresh process didn't give again."""
    UNREADABLE = "unreadable"
    """Its process answered what is no answer."""


class Launch(BaseModel):
    """One kernel launch, or torch operator, of the run on the variant; its times are estimated, whatever the basis."""

    model_config = ConfigDict(frozen=True)

    kernel: str
    programs: int
    time_us: float
    bound: str
    """What it waits for most: `tensor`, `arithmetic`, `memory`, `l2`, `l1`, `latency` or `launch`."""
    breakdown_us: dict[str, float] = {}
    """What `time_us` is the sum of, by what is waited for."""
    host_us: float = 0.0
    """What the host takes to issue it, which hides behind the GPU's work where there is enough of that."""
    waits: bool = False
    """Whether the host waits for its result."""
    resources: dict[str, int]
    """Registers, shared bytes, spilled bytes, warps, blocks at work on a multiprocessor."""


class Report(BaseModel):
    """The outcome for one source on one variant."""

    model_config = ConfigDict(frozen=True)

    status: Status
    failure_class: FailureClass | Refusal | None = None
    reasons: list[str] = []
    correctness: list[dict[str, JsonValue]] = []
    """For each small case: its sizes, the relative L2 error, the largest error, and how many elements missed."""
    unsampled: str | None = None
    """Why no part of the output was graded at the variant's own size, where that was asked for."""
    launches: list[Launch] = []
    time_us: float | None = None
    interval_us: tuple[float, float] | None = None
    """What `time_us` lies between: under other constants of the device, or the median's 95 % interval if measured."""
    crude_us: float | None = None
    """The second opinion of an estimate: arithmetic and bytes of the whole alone."""
    perturbed_us: list[float] = []
    """`time_us` of an estimate under other constants of the device, in the order of the seeds 0, 1, ..."""
    baseline_us: float | None = None
    """What the problem's seed kernel took on the same device just before; none of an estimate."""
    floor_us: float
    """No implementation is faster."""
    basis: str = "estimated"
    """`estimated` or `measured`: of time, interval and floor."""
    device: str

    @property
    def accepted(self) -> bool:
        """Whether the kernel may be used."""
        return self.status is Status.ACCEPTED
