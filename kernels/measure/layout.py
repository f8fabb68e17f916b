"""Where the tensors of one call lie in the parent's buffer, and what must still stand there afterwards.

The buffer is all ones in bits but for the inputs: NaN for every floating type, -1 for integers. So an output that is
never written is NaN, a read beyond a tensor gives NaN, and a write beyond one shows.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core import ConfigurationError
from ..problem import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

    Bytes = NDArray[np.uint8]

ALIGNMENT = 256
"""What cudaMalloc aligns to, and so what kernels may count on."""
GUARD = 4096
"""Bytes on both sides of every tensor that belong to none."""
JITTER = 64
"""Up to so many times the alignment are left free before a tensor, as drawn."""
POISON = 0xFF

_SIZES = {
    "bool": 1, "uint8": 1, "int8": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "int16": 2, "float16": 2, "bfloat16": 2,
    "int32": 4, "float32": 4, "int64": 8, "float64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """One tensor, contiguous, `offset` bytes from the buffer's start."""

    offset: int
    bytes: int
    spec: TensorSpec


@dataclass(frozen=True)
class Layout:
    """All tensors of one call; none overlaps another or its guards."""

    inputs: dict[str, Place]
    output: Place
    bytes: int


def lay_out(specs: Mapping[str, TensorSpec], output: TensorSpec, seed: int) -> Layout:
    """Place inputs and output in random order, each at a random offset.

    Raises:
        ConfigurationError: a type that isn't known.
    """
    draw = random.Random(seed)
    names: list[str | None] = [None, *sorted(specs)]
    draw.shuffle(names)
    end, places = 0, dict[str | None, Place]()
    for name in names:
        spec = output if name is None else specs[name]
        if spec.dtype not in _SIZES:
            raise ConfigurationError(f"A tensor of type {spec.dtype}: expected one of {', '.join(sorted(_SIZES))}.")
        start = _align(end + GUARD) + ALIGNMENT * draw.randint(0, JITTER)
        places[name] = Place(start, math.prod(spec.shape) * _SIZES[spec.dtype], spec)
        end = start + places[name].bytes
    inputs = {name: place for name, place in places.items() if name is not None}
    return Layout(inputs, places[None], _align(end + GUARD))


def raw_bytes(name: str, array: "NDArray[np.generic]", place: Place) -> "Bytes":
    """An input's bytes; a bfloat16 one may come as float32 that holds the same values.

    Raises:
        ConfigurationError: the problem drew another size than it said.
    """
    import numpy as np

    values = np.ascontiguousarray(array).reshape(-1)
    if place.spec.dtype == "bfloat16" and values.dtype == np.float32:
        values = (values.view(np.uint32) >> 16).astype(np.uint16)  # exact: bfloat16 is the upper half
    found = values.view(np.uint8)
    if found.size != place.bytes:
        raise ConfigurationError(
            f"The problem drew {found.size} bytes for {name}, expected {place.bytes} for {place.spec.dtype} "
            f"{list(place.spec.shape)}: its `inputs` and `specs` must agree."
        )
    return found


def damage(
    layout: Layout, inputs: "Arrays", after: "Bytes", rooms: frozenset[str] = frozenset()
) -> tuple[bool, str] | None:
    """What a call changed outside of its output, or none.

    Args:
        layout: of the call.
        inputs: as they were handed out.
        after: the whole buffer afterwards.
        rooms: inputs that may be written to.

    Returns:
        Whether it is an input that was changed (else the space between tensors), and the words for it.
    """
    free = after == POISON
    free[layout.output.offset : layout.output.offset + layout.output.bytes] = True
    for name, place in layout.inputs.items():
        span = slice(place.offset, place.offset + place.bytes)
        changed = int((after[span] != raw_bytes(name, inputs[name], place)).sum())
        if changed and name not in rooms:
            return True, f"{changed} of {place.bytes} bytes of the input {name} were changed"
        free[span] = True
    if free.all():
        return None
    at = int(free.argmin())
    return False, f"{int((~free).sum())} bytes outside of every tensor were written, the first {_where(layout, at)}"


def _where(layout: Layout, at: int) -> str:
    places = {**layout.inputs, "the output": layout.output}
    name, place = min(places.items(), key=lambda each: min(abs(at - each[1].offset), abs(at - _end(each[1]))))
    if at >= _end(place):
        return f"{at - _end(place)} bytes after the end of {name}"
    return f"{place.offset - at} bytes before {name}"


def _end(place: Place) -> int:
    return place.offset + place.bytes


def _align(value: int) -> int:
    return -(-value // ALIGNMENT) * ALIGNMENT
