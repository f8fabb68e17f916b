"""Safetensors that a candidate wrote: the header is checked here before anything else reads the bytes.

    data = read_result(work, "adapter/adapter_model.safetensors", limit)
    tensors = parse_safetensors(data)          # names, types and shapes; ValueError for anything but plain tensors

The format is an 8-byte little-endian length, a JSON header of that length, and the tensors' bytes, without a gap and in
no more than one place each (https://github.com/huggingface/safetensors#format). Nothing in it can be code.
"""

import json
import math
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

_HEADER_BYTES = 16 << 20
_DIMENSIONS = 16
_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """What the header says of one tensor, found to agree with the bytes that are there."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Of its bytes, from the end of the header."""
    end: int


def parse_safetensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a file, by name, in the order of their bytes.

    Raises:
        ValueError: the bytes are no safetensors: a length that isn't true, a header that isn't plain JSON, a name that
            stands twice, an unknown type, or tensors that overlap, leave a gap, or don't fill the file.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(_HEADER_BYTES, len(data) - 8):
        raise ValueError(f"a header of {size} bytes in {len(data)}")
    try:
        header: JsonValue = json.loads(data[8 : 8 + size], object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("the header is nested too deeply") from error
    if not isinstance(header, dict) or data[8:9] != b"{":
        raise ValueError("the header is no object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the metadata is not text by name")
    found = {name: _tensor(name, value) for name, value in header.items()}
    ordered = sorted(found.items(), key=lambda each: (each[1].begin, each[1].end))
    place = 0
    for name, tensor in ordered:
        if tensor.begin != place:
            raise ValueError(f"tensor {name[:80]!r} begins at byte {tensor.begin}, and the one before ends at {place}")
        place = tensor.end
    if place != len(data) - 8 - size:
        raise ValueError(f"the tensors end at byte {place} of {len(data) - 8 - size}")
    return dict(ordered)


def _tensor(name: str, value: JsonValue) -> Tensor:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name[:80]!r} is described by other than dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"tensor {name[:80]!r} is of the unknown type {str(dtype)[:40]!r}")
    if not _are_sizes(shape) or len(cast("list[int]", shape)) > _DIMENSIONS:
        raise ValueError(f"tensor {name[:80]!r} has a shape that isn't one")
    if not _are_sizes(offsets) or len(cast("list[int]", offsets)) != 2:
        raise ValueError(f"tensor {name[:80]!r} has offsets that aren't two whole numbers")
    sizes = tuple(cast("list[int]", shape))
    begin, end = cast("list[int]", offsets)
    if (end - begin) * 8 != math.prod(sizes) * _BITS[dtype]:
        raise ValueError(f"tensor {name[:80]!r} has {end - begin} bytes, which its type and shape don't need")
    return Tensor(dtype, sizes, begin, end)


def _are_sizes(value: JsonValue) -> bool:
    """Whether it is a list of whole numbers below 2^63; JSON's `true` is none."""
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 1 << 63 for each in value)


def _once(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in the header")
    return found
