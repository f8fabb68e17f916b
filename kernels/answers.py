"""What a process that ran a submission's code may answer: frozen and bounded; whatever else it sends is a failure.

Such a process is the submission's as much as the worker's: it can send any bytes. So nothing that it says counts as
a measurement, its outputs are measured where it can't reach, and what it tells of its launches is checked for form
here and for sense in `verifier.py`.
"""

import json
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from .report import FailureClass

Name = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=1 << 62)]
Amount = Annotated[float, Field(ge=0, le=1e18)]
Number = Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)]
Scalar = bool | Number | float | Annotated[str, Field(max_length=1000)] | None
Extent = Annotated[int, Field(ge=1, lt=1 << 31)]

Named = Field(max_length=256)
"""Of a mapping by names that a source gives, so that an answer of nonsense is soon refused."""
LAUNCHES, OPERATORS = 4096, 32768
"""The most that a run may do; what it does takes 3 us each."""


class Untrusted(BaseModel):
    """Of exactly the fields that are named, of exactly their types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Failure(Untrusted):
    """Why there is no other answer."""

    error: tuple[FailureClass, Annotated[str, Field(max_length=4000)]]


class Step(Untrusted):
    """A launch, but for all that depends on size."""

    kernel: Name
    types: dict[Name, Name] = Named
    """Element type of each tensor argument."""
    words: dict[Name, Annotated[str, Field(max_length=1000)]] = Named
    """The constexprs that are strings."""


class Course(Untrusted):
    """What a run did, each kind of step once, in the order in which they first came."""

    steps: tuple[Step, ...] = Field(max_length=LAUNCHES, fail_fast=True)
    operators: tuple[Name, ...] = Field(max_length=OPERATORS, fail_fast=True)
    """Torch operators that move data."""


class Ran(Untrusted):
    """A case that gave an output, which is yet to be measured."""


class TensorArgument(Untrusted):
    """A pointer that a launch was given."""

    tensor: Count
    """Number of its storage: arguments of one storage share it."""
    offset: Count
    """Bytes from the storage's start."""
    dtype: Name
    bytes: Count
    """Size of the storage."""


class ScalarArgument(Untrusted):
    """A number that a launch was given."""

    value: bool | Number | float | None


class RecordedLaunch(Untrusted):
    """One launch of the run on tensors without memory."""

    kernel: Name
    grid: tuple[Extent, Extent, Extent]
    arguments: dict[Name, TensorArgument | ScalarArgument] = Named
    constexprs: dict[Name, Scalar | tuple[Scalar, ...]] = Named
    options: dict[Name, bool | Number | Name] = Named

    @property
    def step(self) -> Step:
        """The launch, but for all that depends on size."""
        tensors = {name: a.dtype for name, a in self.arguments.items() if isinstance(a, TensorArgument)}
        words = {name: value for name, value in self.constexprs.items() if isinstance(value, str)}
        return Step(kernel=self.kernel, types=tensors, words=words)


class Operator(Untrusted):
    """One torch operator of the run on tensors without memory."""

    name: Name
    bytes: Count
    flops: Amount
    dtype: Name


class Trace(Untrusted):
    """The run on tensors without memory, at the variant's size."""

    launches: tuple[RecordedLaunch, ...] = Field(max_length=LAUNCHES, fail_fast=True)
    operators: tuple[Operator, ...] = Field(max_length=OPERATORS, fail_fast=True)

    @property
    def course(self) -> Course:
        """What the run did."""
        steps = {step.model_dump_json(): step for step in (launch.step for launch in self.launches)}
        return Course(steps=tuple(steps.values()), operators=tuple(dict.fromkeys(each.name for each in self.operators)))


class CasesAnswer(Untrusted):
    """Of a request for outputs."""

    cases: tuple[Ran | Failure, ...] = Field(fail_fast=True)
    courses: tuple[Course, ...] = Field(fail_fast=True)
    traces: tuple[()]


class TraceAnswer(Untrusted):
    """Of a request for launches."""

    cases: tuple[()]
    courses: tuple[()]
    traces: tuple[Trace | Failure]


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
    operations: Amount
    trips: Amount


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
