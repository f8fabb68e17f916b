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
    CRASH = "crash"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    BAD_OUTPUT = "bad-output"
    """Not one fp32 tensor of the right shape with finite values."""
    WRONG_RESULT = "wrong-result"
    PRECISION = "precision"
    """Right to the public tolerance, but over the contract's relative error."""
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


class Launch(BaseModel):
    """One kernel launch, or torch operator, of the run on the variant."""

    model_config = ConfigDict(frozen=True)

    kernel: str
    programs: int
    time_us: float
    bound: str
    """What it waits for most: `tensor`, `arithmetic`, `memory`, `l2`, `latency` or `launch`."""
    resources: dict[str, int]
    """Registers, shared bytes, spilled bytes, warps, blocks at work on a multiprocessor."""


class Report(BaseModel):
    """The outcome for one source on one variant; all times are estimated, and say on what basis."""

    model_config = ConfigDict(frozen=True)

    status: Status
    failure_class: FailureClass | None = None
    reasons: list[str] = []
    correctness: list[dict[str, JsonValue]] = []
    """For each small case: its sizes, the relative L2 error, the largest error, and how many elements missed."""
    launches: list[Launch] = []
    time_us: float | None = None
    crude_us: float | None = None
    """The second opinion: arithmetic and bytes of the whole alone."""
    perturbed_us: list[float] = []
    """`time_us` under other constants of the device, in the order of the seeds 0, 1, ..."""
    floor_us: float
    """No implementation is faster."""
    basis: str = "estimated"
    device: str

    @property
    def accepted(self) -> bool:
        """Whether the kernel may be used."""
        return self.status is Status.ACCEPTED
