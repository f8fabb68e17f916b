"""What walking a tensor costs: the bytes it holds, and the sectors that pass through L2 for the order of the walk.

A kernel over elements walks its operands in one order, the output's. Where an operand's neighbours in that order lie
far apart in memory, each 32-byte sector is fetched for a few bytes, and again for the next few once other walks have
come between: from L2 if it still has it, else from memory.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

Tensor: TypeAlias = Mapping[str, Any]
"""A view of a numbered storage: `t`, `dtype`, `offset`, `sizes`, `strides`, the last three in elements."""

SECTOR, LINE, WARP = 32, 128, 32
BLOCK = 512
"""Elements that one block of PyTorch's elementwise kernels does: 128 threads, four each."""

_BYTES = {
    "float64": 8, "int64": 8, "complex64": 8, "complex128": 16, "float32": 4, "int32": 4, "uint32": 4, "uint64": 8,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Traffic:
    """What a kernel moves of one storage."""

    storage: int
    useful: float
    """Bytes of the elements touched, each once."""
    least: float
    """Bytes of the sectors touched, each once."""
    sectors: float
    """Bytes of sectors that pass between L2 and the multiprocessors."""
    lines: float = 0.0
    """Look-ups of 128-byte lines in L1, where a warp's loads are spread over more than one."""
    footprint: float = 0.0
    """Bytes of all operands touched between two touches of a sector."""
    writes: bool = False


def itemsize(dtype: str) -> int:
    """Bytes of one element."""
    return _BYTES.get(dtype, 1)


def count(tensor: Tensor) -> int:
    """Elements."""
    return math.prod(tensor["sizes"])


def distinct(tensor: Tensor) -> float:
    """Bytes of the elements in memory: what is broadcast counts once."""
    sizes = zip(tensor["sizes"], tensor["strides"], strict=True)
    return float(math.prod(n for n, stride in sizes if stride != 0) * itemsize(tensor["dtype"]))


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one run of memory, in whatever order."""
    expected = 1
    for stride, size in sorted(zip(tensor["strides"], tensor["sizes"], strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def is_contiguous(tensor: Tensor) -> bool:
    """Whether the elements fill one run of memory in row-major order."""
    expected = 1
    for stride, size in zip(reversed(tensor["strides"]), reversed(tensor["sizes"]), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def like(tensor: Tensor, storage: int = -1, dtype: str | None = None) -> dict[str, Any]:
    """A contiguous tensor of the same sizes."""
    sizes = list(tensor["sizes"])
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    return {"t": storage, "dtype": dtype or tensor["dtype"], "offset": 0, "sizes": sizes, "strides": strides}


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in an operator's arguments, in order."""
    if isinstance(value, Mapping):
        inside = cast("Mapping[str, Any]", value)
        if "t" in inside:
            yield inside
            return
        value = list(inside.values())
    if isinstance(value, (list, tuple)):
        for part in cast("Sequence[Any]", value):
            yield from tensors(part)


@dataclass(frozen=True)
class Walk:
    """An elementwise kernel's way through its operands."""

    traffic: tuple[Traffic, ...]
    elements: int
    axes: int
    """Of the walk, after axes that lie behind one another in every operand are joined; 1 if all is one run."""
    vectors: bool
    """Whether each thread may load several neighbours at once."""


def walk(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Walk:
    """Walk the operands in the order of the first output, as PyTorch's TensorIterator does."""
    operands = [*outputs, *inputs]
    rank = max(len(operand["sizes"]) for operand in operands)
    sizes = [1] * rank
    for operand in operands:
        for axis, size in enumerate(operand["sizes"], rank - len(operand["sizes"])):
            sizes[axis] = max(sizes[axis], size)
    strides = [_expanded(operand, sizes) for operand in operands]
    order = sorted(
        (axis for axis in range(rank) if sizes[axis] > 1),
        key=lambda axis: [s[axis] or 1 << 62 for s in strides],
    )
    joined: list[tuple[int, list[int]]] = []
    for axis in order:
        step = [s[axis] for s in strides]
        if joined and step == [s * joined[-1][0] for s in joined[-1][1]]:
            joined[-1] = (joined[-1][0] * sizes[axis], joined[-1][1])
        else:
            joined.append((sizes[axis], step))
    lengths = [size for size, _ in joined]
    elements = math.prod(lengths)
    touched = [
        _touched(operand, lengths, [step[index] for _, step in joined], index < len(outputs))
        for index, operand in enumerate(operands)
    ]
    density = sum(held for _, _, held in touched)
    traffic = tuple(_with_footprint(part, distance * density) for part, distance, _ in touched)
    vectors = len(joined) <= 1 and len({operand["dtype"] for operand in operands}) == 1
    return Walk(merged(traffic), elements, max(len(joined), 1), vectors)


def straight(tensor: Tensor, writes: bool = False, times: float = 1.0) -> Traffic:
    """A tensor that is read or written in the order of its memory, `times` over."""
    size = distinct(tensor)
    return Traffic(int(tensor["t"]), size, size, size * times, writes=writes)


def merged(traffic: Sequence[Traffic]) -> tuple[Traffic, ...]:
    """The same, with an operand that comes twice counted once."""
    return tuple(dict.fromkeys(traffic))


def _with_footprint(part: Traffic, footprint: float) -> Traffic:
    return replace(part, footprint=footprint)


def _expanded(operand: Tensor, sizes: Sequence[int]) -> list[int]:
    missing = len(sizes) - len(operand["sizes"])
    own = zip(operand["sizes"], operand["strides"], strict=True)
    return [0] * missing + [0 if size == 1 else stride for size, stride in own]


def _touched(operand: Tensor, lengths: list[int], steps: list[int], writes: bool) -> tuple[Traffic, float, float]:
    """Traffic of one operand, after how many elements of the walk it comes back to a sector, and what an element holds.

    L2 gives room by the line: of one that is touched for a single sector, the rest lies empty.
    """
    size = itemsize(operand["dtype"])
    elements = math.prod(lengths)
    box, warp = _first(BLOCK, lengths), _first(WARP, lengths)
    sectors = _runs(box, steps, size, SECTOR) * elements / max(math.prod(box), 1) * SECTOR
    lines = _runs(warp, steps, size, LINE)
    looked_up = lines * elements / max(math.prod(warp), 1) if lines > WARP * size / LINE + 1 else 0.0
    least = _runs(lengths, steps, size, SECTOR) * SECTOR
    useful = math.prod(n for n, step in zip(lengths, steps, strict=True) if step) * size
    distance, inner = 0.0, 1
    for length, step, inside in zip(lengths, steps, box, strict=True):
        if abs(step) * size < SECTOR and inside < length and not distance:
            distance = float(inner)
        inner *= length
    held = _runs(box, steps, size, LINE) * LINE / max(math.prod(box), 1)
    traffic = Traffic(int(operand["t"]), useful, least, max(sectors, least), looked_up, writes=writes)
    return traffic, distance, held


def _first(elements: int, lengths: list[int]) -> list[int]:
    """The box that the first so many elements of a walk fill."""
    box: list[int] = []
    for length in lengths:
        box.append(min(length, max(elements, 1)))
        elements = -(-elements // length)
    return box


def _runs(box: list[int], steps: list[int], size: int, unit: int) -> float:
    """Units of memory (sectors or lines, in bytes) that a box of elements touches."""
    run, apart = float(size), 1.0
    for step, length in sorted((abs(step) * size, length) for step, length in zip(steps, box, strict=True)):
        if step == 0 or length == 1:
            continue
        if step <= max(run, unit):
            run = step * (length - 1) + run
        else:
            apart *= length
    return apart * max(run / unit, 1.0)
