"""What a process that ran a submission's code may answer: frozen and bounded; whatever else it sends is a failure.

Such a process is the submission's as much as the worker's: it can send any bytes. So nothing that it says counts as
a measurement: it says which steps to take, and they are taken, graded and counted where it can't reach.
"""

import json
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from .report import FailureClass

Name = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=1 << 62)]
Amount = Annotated[float, Field(ge=0, le=1e18)]
Number = Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)]
Extent = Annotated[int, Field(ge=1, lt=1 << 31)]

Named = Field(max_length=256)
"""Of a mapping by names that a source gives, so that an answer of nonsense is soon refused."""
STEPS = 32_768
"""The most that a session may do."""


class Untrusted(BaseModel):
    """Of exactly the fields that are named, of exactly their types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Failure(Untrusted):
    """Why there is no other answer."""

    error: tuple[FailureClass, Annotated[str, Field(max_length=4000)]]


class Tensor(Untrusted):
    """A tensor as a view of a numbered storage; offset and strides in elements."""

    t: Count
    dtype: Name
    offset: Count
    sizes: tuple[Count, ...] = Field(max_length=16)
    strides: tuple[Count, ...] = Field(max_length=16)


class Descriptor(Untrusted):
    """A tensor descriptor that a launch was given."""

    descriptor: Tensor
    block: tuple[Extent, ...] = Field(max_length=8)
    padding: Name


class Scalar(Untrusted):
    """A number that a launch was given."""

    value: bool | Number | float | None


class Infinite(Untrusted):
    """A number that JSON has no word for."""

    float: Literal["inf", "-inf", "nan"]


class Element(Untrusted):
    """A type of Triton's language, by its name there."""

    type: Name


Constant = bool | Number | float | Annotated[str, Field(max_length=1000)] | Element | Infinite | None


class Launched(Untrusted):
    """One launch of a kernel."""

    kernel: Name
    grid: tuple[Extent, Extent, Extent]
    arguments: dict[Name, Tensor | Descriptor | Scalar | Infinite] = Named
    constexprs: dict[Name, Constant | tuple[Constant, ...]] = Named
    options: dict[Name, bool | Number | Name] = Named

    @property
    def step(self) -> "Step":
        """The launch, but for all that depends on size."""
        tensors = {name: a.dtype for name, a in self.arguments.items() if isinstance(a, Tensor)}
        tensors |= {name: a.descriptor.dtype for name, a in self.arguments.items() if isinstance(a, Descriptor)}
        words = {name: value for name, value in self.constexprs.items() if isinstance(value, str)}
        return Step(kernel=self.kernel, types=tensors, words=words)


class Operated(Untrusted):
    """One torch operator."""

    op: Name
    args: list[JsonValue] = Field(max_length=256)
    kwargs: dict[Name, JsonValue] = Named
    outs: tuple[Tensor | None, ...] = Field(max_length=256)
    region: Count | None

    @property
    def name(self) -> str:
        """Such as `bmm` of `aten.bmm.default`."""
        return self.op.split(".")[1] if self.op.count(".") > 1 else self.op


class Recording(Untrusted):
    """What one call of `custom_kernel` did."""

    inputs: dict[Name, Tensor] = Named
    steps: tuple[Launched | Operated, ...] = Field(max_length=STEPS, fail_fast=True)
    output: Tensor
    flags: dict[Name, bool] = Named

    @property
    def launches(self) -> tuple[Launched, ...]:
        """The launches among the steps."""
        return tuple(step for step in self.steps if isinstance(step, Launched))

    @property
    def operators(self) -> tuple[Operated, ...]:
        """The operators among the steps."""
        return tuple(step for step in self.steps if isinstance(step, Operated))

    @property
    def course(self) -> "Course":
        """What the call did."""
        steps = {step.model_dump_json(): step for step in (launch.step for launch in self.launches)}
        names = dict.fromkeys(each.name for each in self.operators if "empty" not in each.name)
        return Course(steps=tuple(steps.values()), operators=tuple(names))


class SessionAnswer(Untrusted):
    """Of a request to record."""

    sizes: tuple[Count, ...] = Field(max_length=4 * STEPS, fail_fast=True)
    """Bytes of each storage."""
    constants: tuple[Count, ...] = Field(max_length=STEPS)
    choices: dict[Name, Extent] = Named
    """For each autotuned kernel, how many configurations it may choose from."""
    prologue: tuple[Launched | Operated, ...] = Field(max_length=STEPS, fail_fast=True)
    calls: tuple[Recording, ...]


class Again(Untrusted):
    """The host code reads values that kernels would have written."""

    again: Annotated[str, Field(max_length=1000)]


class Step(Untrusted):
    """A launch, but for all that depends on size."""

    kernel: Name
    types: dict[Name, Name] = Named
    """Element type of each tensor argument."""
    words: dict[Name, Annotated[str, Field(max_length=1000)]] = Named
    """The constexprs that are strings."""


class Course(Untrusted):
    """What a call did, each kind of step once, in the order in which they first came."""

    steps: tuple[Step, ...]
    operators: tuple[Name, ...]


class Replayed(Untrusted):
    """A call that was done again."""

    error: tuple[FailureClass, Annotated[str, Field(max_length=4000)]] | None = None


class Run(Untrusted):
    """One run over a session."""

    calls: tuple[Replayed, ...]
    spins: bool
    """Whether a program waits for another."""
    products: dict[Name, tuple[Name, ...]] = Named
    """The precisions that each kernel's products are in."""


class ReplayAnswer(Untrusted):
    """Of a request to replay."""

    runs: tuple[Run, ...]


class Resources(Untrusted):
    """What `aot.compile_launch` found."""

    registers: Extent
    spills: Count
    shared: Count
    warps: Annotated[int, Field(ge=1, le=64)]
    stages: Count
    wgmma: Count
    mma: Count
    async_copies: Count
    bulk: Count
    ctas: Extent
    serialized: Count


class Access(Untrusted):
    """Accesses of a program through one pointer; see `counting.count`."""

    kind: Name
    tensor: Number
    bytes: Amount
    useful: Amount
    first: Amount
    sharing: Amount
    looped: bool


class Counts(Untrusted):
    """What `counting.count` found."""

    accesses: tuple[Access, ...] = Field(fail_fast=True)
    dots: dict[Name, Amount] = Named
    tiles: dict[Name, tuple[Count, Count, Count]] = Named
    operations: Amount
    trips: Amount
    heaviest: Amount


class CompileAnswer(Untrusted):
    """Of a request to compile a launch."""

    answers: tuple[Resources | Failure]


class CountAnswer(Untrusted):
    """Of a request to count a launch."""

    answers: tuple[Counts | Failure]


T = TypeVar("T", bound=Untrusted)


def read_answer(model: type[T], answer: JsonValue) -> T | Failure:
    """Read an answer as what it should be, or as the failure that it tells; what is neither is a failure itself."""
    failed = isinstance(answer, dict) and "error" in answer
    try:
        return (Failure if failed else model).model_validate_json(json.dumps(answer))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return unreadable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def unreadable(detail: str) -> Failure:
    """The failure of an answer that its process forged or broke."""
    return Failure(error=(FailureClass.BAD_OUTPUT, f"the answer can't be read: {detail}"[:400]))
