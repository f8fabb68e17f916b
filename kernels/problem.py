"""What a kernel problem is: variants to run it on, inputs, a reference in fp64, and what counts as right.

from pawl.kernels import find_problem
variant = find_problem("trimul").draw(seed=7, count=1)[0]
find_problem(variant.problem).flops(variant)
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from .schedule import Schedule, ScheduleSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays: TypeAlias = dict[str, NDArray[np.generic]]


class Distribution(StrEnum):
    """How the values of the activations are drawn."""

    NORMAL = "normal"
    CAUCHY = "cauchy"
    """Heavy tails: a few values dwarf the rest of their row."""


class Precision(StrEnum):
    """The contract on the output's error."""

    FP32 = "fp32"
    """What fp32 products reach, or TF32 ones in three parts; plain TF32 or half precision anywhere break it."""
    FP16 = "fp16"
    """What half-precision or TF32 products reach."""


class Variant(BaseModel):
    """One assignment: the sizes, the distribution and the contract of one run of a problem."""

    model_config = ConfigDict(frozen=True)

    problem: str = "trimul"
    n: int = Field(ge=1)
    """Sequence length; activations are [batch, n, n, dim]."""
    batch: int = Field(default=1, ge=1)
    dim: int = Field(default=128, ge=16)
    """Channels of input and output."""
    hidden: int = Field(default=128, ge=16)
    """Channels inside."""
    distribution: Distribution = Distribution.NORMAL
    mask: bool = False
    precision: Precision = Precision.FP16


class TensorSpec(BaseModel):
    """Shape and element type (a torch name, such as `float32`) of one input."""

    model_config = ConfigDict(frozen=True)

    shape: tuple[int, ...]
    dtype: str


class Tolerance(BaseModel):
    """What an output may differ by from the fp64 reference."""

    model_config = ConfigDict(frozen=True)

    rtol: float
    atol: float
    """Every element must be within `atol + rtol * |reference|`; not one may miss."""
    relative_l2: float
    """Limit on |output - reference| / |reference| in the Euclidean norm over the whole tensor."""


class KernelProblem(Protocol):
    """One operator: swap in another without touching the verifier.

    A submission is a Python module that defines `custom_kernel(data)`. `arguments` says how `data` is built from
    named tensors: JSON in which `{"tensor": name}` stands for a tensor and `{"tuple": [...]}` for a tuple.
    """

    name: str
    space: ScheduleSpace

    def seed_source(self) -> str:
        """The plain kernel that speed-ups are counted from."""
        ...

    def render(self, schedule: Schedule) -> str:
        """Write the Triton module of a valid schedule."""
        ...

    def benchmark(self) -> Sequence[Variant]:
        """The public benchmark shapes."""
        ...

    def correctness(self, precision: Precision, seed: int = 0) -> Sequence[Variant]:
        """Small variants, odd sizes among them, that the interpreter gets through quickly; sizes are drawn."""
        ...

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream."""
        ...

    def slice_of(self, variant: Variant) -> str:
        """The kind of a variant, one of at most four."""
        ...

    def tolerance(self, precision: Precision) -> Tolerance:
        """What the contract allows."""
        ...

    def flops(self, variant: Variant) -> float:
        """Multiplications and additions of the matrix products, counted as two a pair."""
        ...

    def least_bytes(self, variant: Variant) -> float:
        """Bytes that any implementation moves: inputs read once, output written once."""
        ...

    def specs(self, variant: Variant) -> dict[str, TensorSpec]:
        """The inputs' names, shapes and types."""
        ...

    def arguments(self, variant: Variant) -> JsonValue:
        """How `data` is built from the inputs."""
        ...

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Draw every input from one generator."""
        ...

    def reference(self, variant: Variant, inputs: "Arrays") -> "NDArray[np.float64]":
        """The exact output, in fp64."""
        ...
