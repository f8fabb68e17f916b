# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""Counts what a launch does: bytes by sector, products, other arithmetic, from two samples of its programs.

Neighbours, which run at the same time, tell what programs share in L2; programs from all over the grid tell how much
each does, where tiles are ragged, loops differ in length or some end early. Both run in the batched interpreter on
addresses without memory behind them: loads give zeros, or what was supplied, and nothing is stored. Loops run their
first, middle and last trip, and the middle one is weighted to stand for all others.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import builtins
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import interpreter_semantic

from . import interpret
from .formats import Value
from .operands import decode_constant
from .sampling import Sample, distinct, draw_sample, ways

SECTOR = 32
"""Bytes that the memory system moves at least."""
EXACT = 4
"""Programs of a batch whose sectors are counted; of the others, the elements."""
WHOLE = 4
"""Trips up to which a loop runs whole."""
MOST = 20_000
"""Accesses of one batch, beyond which its loops are taken not to end."""

_KINDS = {"bf16": "bf16", "fp16": "fp16", "int8": "int8", "uint8": "int8", "fp64": "fp64"}
_PRECISIONS = {"TF32": "tf32", "TF32x3": "tf32x3", "BF16x3": "bf16x3", "BF16x6": "bf16x6"}


class Endless(Exception):
    """The sampled programs don't come to an end on zeros."""


def product_kind(a: Any, precision: Any) -> str:
    """What a product is computed in: `fp16`, `tf32`, ..., by its first operand and the precision asked for."""
    name = a.dtype.scalar.name
    kind = _KINDS.get(name, "fp8" if name.startswith("fp8") else "fp32")
    return _PRECISIONS.get(str(precision).rsplit(".", 1)[-1], kind) if kind == "fp32" else kind


class Counter(interpret.Observer):
    """Collects accesses and arithmetic of one batch of programs, a program on average."""

    def __init__(self, ids: np.ndarray, sample: Sample, values: Mapping[int, bytes]) -> None:
        """Take the batch's programs, of which some are near one another and some stand for the whole grid."""
        self.average = np.flatnonzero(np.isin(ids, sample.strata))
        self.row = np.flatnonzero(np.isin(ids, sample.row))
        self.spread = np.flatnonzero(np.isin(ids, sample.spread))
        self.near = np.union1d(self.row, self.spread)
        self.programs, self.window = len(ids), sample.window
        self.regions: dict[tuple[str, int], list[int]] = {}
        """For each side of each tensor, where the accesses of programs near one another start."""
        self.values = values
        self.weight = 1.0
        self.length = 1.0
        self.depth = 0
        self.accesses: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.dots: dict[str, float] = {}
        self.tiles: dict[str, tuple[int, int, int]] = {}
        self.trips = 1.0
        self.operations = 0.0
        self.seen = 0

    def load(self, pointers: Any, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Count, and give zeros, or what was supplied for the storage."""
        tensor = self._access("load", pointers.data, mask, dtype.itemsize)
        if tensor in self.values:
            return self._supplied(tensor, pointers.data, mask, other, dtype)
        return np.zeros((1, *pointers.data.shape[1:]), dtype)

    def store(self, pointers: Any, value: np.ndarray, mask: np.ndarray) -> None:
        """Count."""
        self._access("store", pointers.data, mask, value.dtype.itemsize)

    def atomic(self, pointers: Any, mask: np.ndarray, dtype: np.dtype, perform: Any) -> np.ndarray:
        """Count, and give zeros for the old contents."""
        self._access("atomic", pointers.data, mask, dtype.itemsize)
        return np.zeros((1, *pointers.data.shape[1:]), dtype)

    def dot(self, a: Any, b: Any, shape: tuple[int, ...], precision: Any) -> np.ndarray:
        """Count two operations a multiplication; the result is zeros."""
        kind = product_kind(a, precision)
        depth = a.data.shape[-1]
        flops = 2.0 * np.prod(shape[1:]) * depth * self.weight
        self.dots[kind] = self.dots.get(kind, 0.0) + float(flops)
        tile = (int(shape[-2]), int(shape[-1]), int(depth))
        self.tiles[kind] = max(self.tiles.get(kind, (0, 0, 0)), tile, key=lambda each: each[0] * each[1])
        self.trips = max(self.trips, self.length)
        return np.zeros((1, *shape[1:]), np.int32 if kind == "int8" else np.float64 if kind == "fp64" else np.float32)

    def elementwise(self, count: int) -> None:
        """Count."""
        self.operations += count * self.weight

    @property
    def effort(self) -> float:
        """Something like the time of a program: 300 operations of a product take as long as a byte."""
        return (
            sum(self.dots.values()) / 300 + sum(each["bytes"] for each in self.accesses.values()) + self.operations / 4
        )

    def _access(self, kind: str, pointers: np.ndarray, mask: np.ndarray, size: int) -> int:
        self.seen += 1
        if self.seen > MOST:
            raise Endless(f"more than {MOST} accesses a program, although loops over ranges run three trips")
        lead = len(pointers)
        flat, active = pointers.reshape(lead, -1).astype(np.int64), mask.reshape(lead, -1)
        origins = flat[:, 0]
        tensor = int(origins[0] >> 44) - 1
        counted = self.average if lead > 1 else np.zeros(min(len(self.average), 1), np.int64)
        elements = float(active[counted].sum(1).mean()) if len(counted) else 0.0
        if not elements:
            return tensor
        sectors = touched = 0.0
        for row in counted[np.linspace(0, len(counted) - 1, min(EXACT, len(counted))).astype(int)]:
            blocks = flat[row][active[row]] // SECTOR
            touched += blocks.size
            if blocks.size:
                steps = np.diff(blocks)
                if (steps < 0).any():
                    steps = np.diff(np.sort(blocks))
                sectors += 1 + np.count_nonzero(steps)
        bytes_ = sectors * SECTOR * elements / max(touched, 1.0) * self.weight
        key = (kind, tensor, origins.tobytes(), round(elements))
        entry = self.accesses.get(key)
        if entry is None:
            entry = self.accesses[key] = {
                "kind": kind, "tensor": tensor, "bytes": 0.0, "useful": 0.0, "first": float(bytes_),
                "looped": self.depth > 0, "sharing": self._sharing(origins, active),
            }  # fmt: skip
            starts = origins[self.near] if lead > 1 else origins[:1].repeat(len(self.near))
            self.regions.setdefault((kind, tensor), []).extend(starts.tolist())
        if kind == "load":
            self.trips = max(self.trips, self.length)
        entry["bytes"] += float(bytes_)
        entry["useful"] += elements * size * self.weight
        return tensor

    def _sharing(self, origins: Any, active: Any) -> float:
        """Of programs at work together, the share that have a region of their own."""
        if len(origins) == 1:
            return 1.0 / self.window if self.programs > 1 else 1.0
        alive = active.any(1)
        row = origins[self.row][alive[self.row]]
        found = len(np.unique(row)) / len(row) if len(row) else 1.0
        return min(found, distinct(origins[self.spread][alive[self.spread]], self.window))

    def _supplied(
        self, tensor: int, pointers: np.ndarray, mask: np.ndarray, other: np.ndarray, dtype: np.dtype
    ) -> np.ndarray:
        held = np.frombuffer(self.values[tensor], np.uint8)
        held = held[: len(held) // dtype.itemsize * dtype.itemsize].view(dtype)
        at = (pointers.astype(np.int64) & ((1 << 44) - 1)) // dtype.itemsize
        inside = mask & (at < len(held))
        found = held[np.where(inside, at, 0)] if len(held) else np.zeros(at.shape, dtype)
        return np.where(inside, found, np.where(mask, np.zeros((), dtype), other))


def count(kernel: Any, launch: dict[str, Any], values: Mapping[int, bytes] | None = None) -> dict[str, Any]:
    """Count one launch of an interpreted kernel.

    Args:
        kernel: the interpreted kernel.
        launch: as the recorder notes it.
        values: contents of storages that decide what the kernel does, such as lengths or indices; all others read
            as zeros.

    Returns:
        Of a program, on average: `accesses` (bytes by sector, useful bytes, `first` bytes that weren't touched
        before, the share of programs at work together that have a region of their own), `dots` (operations by type),
        `operations`; `tiles` (rows, columns and depth of the largest product of each type), `trips` of the longest
        loop around a load or product, and how much `heaviest` of the programs does against the average.

    Raises:
        Endless: the programs don't end on these values.
    """
    grid = (int(launch["grid"][0]), int(launch["grid"][1]), int(launch["grid"][2]))
    sample = draw_sample(grid[0] * grid[1] * grid[2])
    function = kernel.rewrite()
    parts: list[tuple[float, Counter]] = []
    with interpret.batched(function, interpret.Observer()):
        arguments = {name: _value(value) for name, value in launch["arguments"].items()}
        arguments |= {name: decode_constant(value) for name, value in launch["constexprs"].items()}
        waiting = [sample.all]
        while waiting:
            part = waiting.pop()
            counter = Counter(part, sample, values or {})
            interpreter.interpreter_builder.observer = counter
            try:
                with _sampled_loops(function, counter):
                    interpret.run_batch(function, arguments, grid, part)
            except interpret.Diverged as diverged:
                if len(part) == 1:
                    raise interpret.Unsupported("a condition or a bound that is a block, not a number") from None
                waiting += ways(part, diverged.choices)
            else:
                parts.append((float(len(counter.average)), counter))
    return _joined(parts)


def _joined(parts: list[tuple[float, Counter]]) -> dict[str, Any]:
    whole = sum(programs for programs, _ in parts)
    regions: dict[tuple[str, int], list[int]] = {}
    for _, counter in parts if len(parts) > 1 else []:
        for key, starts in counter.regions.items():
            regions.setdefault(key, []).extend(starts)
    # Programs that went apart share what they share across the parts of the batch.
    across = {key: len(set(starts)) / len(starts) for key, starts in regions.items() if starts}
    accesses: list[dict[str, Any]] = []
    dots: dict[str, float] = {}
    tiles: dict[str, tuple[int, int, int]] = {}
    for programs, counter in parts:
        share = programs / whole
        for access in counter.accesses.values():
            scaled = {each: access[each] * share for each in ("bytes", "useful", "first")}
            sharing = min(access["sharing"], across.get((access["kind"], access["tensor"]), 1.0))
            if scaled["bytes"]:
                accesses.append(access | scaled | {"sharing": sharing})
        for kind, flops in counter.dots.items():
            dots[kind] = dots.get(kind, 0.0) + flops * share
            tiles[kind] = max(tiles.get(kind, (0, 0, 0)), counter.tiles[kind], key=lambda each: each[0] * each[1])
    mean = sum(programs * counter.effort for programs, counter in parts) / whole
    return {
        "accesses": accesses,
        "dots": dots,
        "tiles": {kind: list(tile) for kind, tile in tiles.items()},
        "operations": sum(programs * counter.operations for programs, counter in parts) / whole,
        "trips": max(counter.trips for _, counter in parts),
        "heaviest": max(counter.effort for programs, counter in parts if programs) / mean if mean else 1.0,
    }


@contextmanager
def _sampled_loops(function: Any, counter: Counter) -> Generator[None]:
    """Make the kernel's loops over ranges run some of their trips."""

    def sampled(*bounds: Any) -> Iterator[int]:
        return _trips(counter, builtins.range(*(int(bound) for bound in bounds)))

    def named(arg1: Any, arg2: Any = None, step: Any = None, **kwargs: Any) -> Iterator[int]:
        start, end = (0, arg1) if arg2 is None else (arg1, arg2)
        return sampled(start, end, 1 if step is None else step)

    names = function.__globals__
    kept, ranges = names.get("range"), [(module, module.range) for module in (tl, tl.core)]
    names["range"] = sampled
    for module, _ in ranges:
        module.range = named
    try:
        yield
    finally:
        for module, before in ranges:
            module.range = before
        if kept is None:
            del names["range"]
        else:
            names["range"] = kept


def _trips(counter: Counter, whole: range) -> Iterator[int]:
    if not whole:
        return
    trips = len(whole)
    places = {0: 1.0, trips // 2: trips - 2.0, trips - 1: 1.0} if trips > WHOLE else dict.fromkeys(range(trips), 1.0)
    weight, length = counter.weight, counter.length
    counter.length = length * trips
    counter.depth += 1
    for place, weighs in places.items():
        counter.weight = weight * weighs
        yield whole[place]
    counter.weight, counter.length = weight, length
    counter.depth -= 1


def _value(described: dict[str, Any]) -> Any:
    if "t" in described:
        return _pointer(described)
    if "descriptor" in described:
        tensor = described["descriptor"]
        strides: list[Any] = [interpret._argument(int(stride)) for stride in tensor["strides"]]
        strides[-1] = tl.constexpr(1)
        return interpreter_semantic.make_tensor_descriptor(
            base=_pointer(tensor),
            shape=[interpret._argument(int(size)) for size in tensor["sizes"]],
            strides=strides,
            block_shape=[tl.constexpr(size) for size in described["block"]],
            padding_option=described["padding"],
        )
    return interpret._argument(float(described["float"]) if "float" in described else described["value"])


_ELEMENTS = {
    "bool": tl.int1, "float8_e4m3fn": tl.float8e4nv, "float8_e5m2": tl.float8e5, "float64": tl.float64,
    "float32": tl.float32, "float16": tl.float16, "bfloat16": tl.bfloat16,
}  # fmt: skip


def _pointer(tensor: dict[str, Any]) -> Any:
    kind = tl.pointer_type(_ELEMENTS.get(tensor["dtype"]) or getattr(tl, str(tensor["dtype"])))
    size = max(kind.element_ty.primitive_bitwidth // 8, 1)
    address = (int(tensor["t"]) + 1 << 44) + int(tensor["offset"]) * size
    return tl.tensor(Value(np.array([address], dtype=np.uint64), kind), kind)
