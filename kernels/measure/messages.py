"""What the parent and the submission's process say to each other: JSON, an 8-byte little-endian length before each.

The parent asks and the child answers, one at a time. A call carries the descriptor of its buffer, which the child has
no way to reach before, and a nonce that the answer repeats, so that none can be sent ahead. Nothing that the child
answers is taken for a measurement; `events_us`, `span_us` and `kernels` are compared with what the parent measured.
"""

import json
import socket
import struct
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ...safety.sandbox.untrusted import parse_untrusted
from ..answers import Failure, Untrusted
from .layout import Layout, Place

ANSWER_BYTES = 1 << 16
_HEADER = struct.Struct("<Q")

Microseconds = Annotated[float, Field(ge=0, le=1e12)]


class Placed(BaseModel):
    """A tensor in the buffer, contiguous."""

    model_config = ConfigDict(frozen=True)

    offset: int
    bytes: int
    dtype: str
    shape: tuple[int, ...]


class Load(BaseModel):
    """Import a submission."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["load"] = "load"
    source: str
    modules: dict[str, str] = {}
    """Text by name of what the source may import beside its own."""


class Run(BaseModel):
    """Map the buffer that comes with it, call the submission, and copy what it returns into the buffer."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["run"] = "run"
    nonce: str
    slot: int
    """Buffers of one slot are mapped at the same address, one after another."""
    bytes: int
    inputs: dict[str, Placed]
    output: Placed
    arguments: JsonValue
    """How `data` is built from the inputs; see `KernelProblem.arguments`."""
    empty: bool = False
    """Run all but the submission; what is copied is a tensor of the child's own."""
    profile: bool = False


class Release(BaseModel):
    """Unmap a slot's buffer."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["release"] = "release"
    slot: int


class Loaded(Untrusted):
    """The submission was imported."""

    loaded: Literal[True]


class Ran(Untrusted):
    """The call has ended, says the child."""

    nonce: Annotated[str, Field(max_length=64)]
    events_us: Microseconds
    """Between device events before and after `custom_kernel`."""
    span_us: Microseconds | None
    """Of a profiled call: from the first kernel's start to the last one's end."""
    kernels: Annotated[int, Field(ge=0, le=1 << 30)] | None
    """Of a profiled call."""


class Released(Untrusted):
    """The buffer was unmapped."""

    released: Annotated[int, Field(ge=0, lt=1 << 31)]


Answer = TypeVar("Answer", bound=Untrusted)


class Broken(Exception):
    """The child's end was closed, or what came is no answer."""


def run_message(
    layout: Layout, arguments: JsonValue, *, nonce: str, slot: int, buffer: int, empty: bool, profile: bool
) -> Run:
    """The call of a layout, in a buffer of `buffer` bytes."""
    return Run(
        nonce=nonce,
        slot=slot,
        bytes=buffer,
        inputs={name: _placed(place) for name, place in layout.inputs.items()},
        output=_placed(layout.output),
        arguments=arguments,
        empty=empty,
        profile=profile,
    )


def send(connection: socket.socket, message: BaseModel, descriptor: int | None = None) -> None:
    """Send a message, and with it a descriptor.

    Raises:
        Broken: the other end is closed.
    """
    body = message.model_dump_json().encode()
    header = _HEADER.pack(len(body))
    try:
        if descriptor is None:
            connection.sendall(header)
        else:
            socket.send_fds(connection, [header], [descriptor])
        connection.sendall(body)
    except TimeoutError:
        raise
    except OSError as error:
        raise Broken(f"it ended: {error}") from error


def receive(connection: socket.socket, model: type[Answer]) -> Answer | Failure:
    """Wait for the answer to what was sent.

    Raises:
        Broken: the child ended, or answered what is no such answer.
        TimeoutError: the connection's time-out ran out.
    """
    size = _HEADER.unpack(_exactly(connection, _HEADER.size))[0]
    if size > ANSWER_BYTES:
        raise Broken(f"an answer of {size} bytes, expected at most {ANSWER_BYTES}")
    return read(model, _exactly(connection, size))


def read(model: type[Answer], body: bytes) -> Answer | Failure:
    """Read an answer, or the failure that it tells.

    Raises:
        Broken: it is neither.
    """
    try:
        value = parse_untrusted(body)
        failed = isinstance(value, dict) and "error" in value
        return (Failure if failed else model).model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise Broken(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise Broken(str(error)) from error


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        try:
            chunk = connection.recv(size - len(found))
        except TimeoutError:
            raise
        except OSError as error:
            raise Broken(f"it ended: {error}") from error
        if not chunk:
            raise Broken("it ended before it answered")
        found += chunk
    return bytes(found)


def _placed(place: Place) -> Placed:
    return Placed(offset=place.offset, bytes=place.bytes, dtype=place.spec.dtype, shape=place.spec.shape)
