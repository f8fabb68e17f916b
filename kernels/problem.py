"""What a kernel problem is: variants to run it on, inputs, a reference in fp64, and what counts as right.

from pawl.kernels import find_problem
variant = find_problem("trimul").draw(seed=7, count=1)[0]
find_problem(variant.problem).flops(variant)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from pydantic import BaseModel, ConfigDict, JsonValue

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
    BINARY = "binary"
    """Zeros and ones, so that sums are exact in half precision too."""
    NEEDLE = "needle"
    """All the weight of a sum on one of its terms, so that a dropped term shows."""


class Precision(StrEnum):
    """The contract on the output's error."""

    FP32 = "fp32"
    """What fp32 products reach, or TF32 ones in three parts; plain TF32 or half precision anywhere break it."""
    FP16 = "fp16"
    """What half-precision or TF32 products reach."""


class Variant(BaseModel):
    """One assignment: the parameters, the distribution and the contract of one run of a problem."""

    model_config = ConfigDict(frozen=True)

    problem: str
    parameters: dict[str, bool | int | float | str]
    """Sizes and options by the problem's own names, such as `{"n": 256, "batch": 2, "dim": 128, "mask": True}`."""
    distribution: Distribution = Distribution.NORMAL
    precision: Precision = Precision.FP16

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    def __str__(self) -> str:
        said = (f"{name}={value}" for name, value in self.parameters.items())
        return f"{', '.join(said)}, {self.distribution}"


_BYTES = {"float64": 8, "int64": 8, "float16": 2, "bfloat16": 2, "int16": 2, "uint8": 1, "int8": 1, "bool": 1}


class TensorSpec(BaseModel):
    """Shape and element type (a torch name, such as `float32`) of one input."""

    model_config = ConfigDict(frozen=True)

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * _BYTES.get(self.dtype, 4)


class Tolerance(BaseModel):
    """What an output may differ by from the fp64 reference."""

    model_config = ConfigDict(frozen=True)

    rtol: float
    atol: float
    """Every element must be within `atol + rtol * |reference|`; not one may miss."""
    relative_l2: float
    """Limit on |output - reference| / |reference| in the Euclidean norm over the whole tensor."""
    budget: float | None = None
    """The error may be this many times that of an honest fp16 run, if that is less; none where fp16 isn't allowed."""
    budget_floor: float = 1e-3
    """The least that the budget comes to, where an fp16 run happens to be almost exact."""
    slope: float = 2e-3
    """Limit on |<output, reference> / <reference, reference> - 1|: rounding is not biased, a scaled output is."""
    exact_on_binary: bool = False
    """Whether inputs of zeros and ones must give the exact result."""


class TritonRule(BaseModel):
    """What share of a run Triton must do."""

    model_config = ConfigDict(frozen=True)

    share: float = 0.3
    """Of the estimated time, without the operators that may be left to torch."""
    left_to_torch: frozenset[str] = frozenset()
    """Torch operators that don't count against the share, such as `bmm`."""


@dataclass(frozen=True)
class Sample:
    """A part of a variant's output, and what of its inputs that part depends on.

    A block is the first and the last plus one along each axis.
    """

    fills: "Sequence[tuple[str, list[tuple[int, int]], NDArray[np.generic]]]"
    """Blocks of inputs and their values; what is left out may be anything."""
    block: list[tuple[int, int]]
    """Of the output; whole programs compute it, so it is larger than what is looked at."""
    places: "tuple[NDArray[np.int64], ...]"
    """Indices within the block of what is looked at: one array for each of the first axes."""
    reference: "NDArray[np.float64]"
    """The exact values there."""
    baseline: "NDArray[np.float64]"
    """What an honest fp16 run gives there."""


@runtime_checkable
class Sampled(Protocol):
    """A problem whose output can be looked at in part, at sizes that are too large for all of it."""

    def sample(self, variant: Variant, seed: int, width: int) -> Sample | None:
        """Draw a part of the output, `width` wide where a tile of that size computes it; none where there is none."""
        ...


Rounding: TypeAlias = "Callable[[NDArray[np.float64]], NDArray[np.float64]]"
"""What a reference applies to whatever a half-precision implementation would store in half precision."""


def exact(values: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Keep fp64."""
    return values


class KernelProblem(Protocol):
    """One operator: swap in another without touching the verifier.

    A submission is a Python module that defines `custom_kernel(data)`. `arguments` says how `data` is built from
    named tensors: JSON in which `{"tensor": name}` stands for a tensor and `{"tuple": [...]}` for a tuple.
    """

    name: str
    space: ScheduleSpace
    triton: TritonRule
    about: str
    """The contract of `custom_kernel(data)` in words, for a model that is to write one."""

    def seed_source(self) -> str:
        """The plain kernel that speed-ups are counted from."""
        ...

    def render(self, schedule: Schedule) -> str:
        """Write the Triton module of a valid schedule."""
        ...

    def benchmark(self) -> Sequence[Variant]:
        """The public benchmark shapes."""
        ...

    def tests(self) -> Sequence[Variant]:
        """The public test shapes."""
        ...

    def correctness(self, seed: int = 0) -> Sequence[Variant]:
        """Small variants that the interpreter gets through in about a second altogether.

        Sizes are drawn, odd ones among them, and every distribution comes up; a cheap one stands first.
        """
        ...

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream."""
        ...

    def slice_of(self, variant: Variant) -> str:
        """The kind of a variant, one of at most four."""
        ...

    def smaller(self, variant: Variant) -> Sequence[Variant]:
        """Variants alike but for the main size, from a cheap one upwards to the variant itself.

        A verifier looks among them for the cheapest at which a submission does the same steps. Where the variant's
        size is odd, theirs are too.
        """
        ...

    def tolerance(self, precision: Precision) -> Tolerance:
        """What the contract allows."""
        ...

    def flops(self, variant: Variant) -> float:
        """Multiplications and additions of the matrix products, counted as two a pair; 0 without products."""
        ...

    def least_bytes(self, variant: Variant) -> float:
        """Bytes that any implementation moves: inputs read once, output written once."""
        ...

    def specs(self, variant: Variant) -> dict[str, TensorSpec]:
        """The inputs' names, shapes and types."""
        ...

    def output(self, variant: Variant) -> TensorSpec:
        """Shape and type of what `custom_kernel` returns."""
        ...

    def arguments(self, variant: Variant) -> JsonValue:
        """How `data` is built from the inputs."""
        ...

    def weights(self, variant: Variant) -> frozenset[str]:
        """Names of the inputs that are parameters of a layer: an implementation may keep what it packs of them."""
        ...

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Draw every input from one generator."""
        ...

    def reference(self, variant: Variant, inputs: "Arrays", rounding: Rounding = exact) -> "NDArray[np.float64]":
        """The exact output, in fp64; with a rounding, what an honest implementation in that precision gives."""
        ...
