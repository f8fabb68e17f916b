# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""Counts what a launch does: bytes by sector, products, other arithmetic, from two samples of its programs.

Neighbours, which run at the same time, tell what programs share in L2; programs from all over the grid tell how much
each does, where tiles are ragged, loops differ in length or some end early. Both run in the batched interpreter on
addresses without memory behind them: loads give zeros, or what was supplied, and nothing is stored. Loops run their
first, middle and last trip, and the middle one is weighted to stand for all others. Where it matters what atomics
return, programs are taken to have fair turns (`turns.py`), and up to 1,056 of them are all run.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from . import interpret
from .absent import BITS, MOST, Endless, Trips, absent_launch, contents, empty_product, storage_of
from .atomics import Change
from .sampling import Sample, distinct, draw_sample
from .syntax import spins, uses_old_contents
from .turns import ALL, Arrivals, Turns, find_arrivals, ways_to_arrive

SECTOR = 32
"""Bytes that the memory system moves at least."""
EXACT = 4
"""Programs of a batch whose sectors are counted; of the others, the elements."""
WHOLE = 4
"""Trips up to which a loop runs whole."""

_KINDS = {"bf16": "bf16", "fp16": "fp16", "int8": "int8", "uint8": "int8", "fp64": "fp64"}
_PRECISIONS = {"TF32": "tf32", "TF32x3": "tf32x3", "BF16x3": "bf16x3", "BF16x6": "bf16x6"}


def product_kind(a: Any, precision: Any) -> str:
    """What a product is computed in: `fp16`, `tf32`, ..., by its first operand and the precision asked for."""
    name = a.dtype.scalar.name
    kind = _KINDS.get(name, "fp8" if name.startswith("fp8") else "fp32")
    return _PRECISIONS.get(str(precision).rsplit(".", 1)[-1], kind) if kind == "fp32" else kind


class Counter(interpret.Observer):
    """Collects accesses and arithmetic of one batch of programs, a program on average."""

    def __init__(
        self,
        ids: np.ndarray,
        sample: Sample,
        values: Mapping[int, bytes],
        turns: Turns | None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Take the batch's programs, of which some are near one another and some stand for the whole grid."""
        self.average = np.flatnonzero(np.isin(ids, sample.strata))
        self.row = np.flatnonzero(np.isin(ids, sample.row))
        self.spread = np.flatnonzero(np.isin(ids, sample.spread))
        self.near = np.union1d(self.row, self.spread)
        self.programs, self.window = len(ids), sample.window
        self.regions: dict[tuple[str, int], list[int]] = {}
        """For each side of each tensor, where the accesses of programs near one another start."""
        self.values, self.turns, self.sizes = values, turns, sizes
        self.weight = 1.0
        self.length = 1.0
        self.depth = 0
        self.accesses: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.dots: dict[str, float] = {}
        self.tiles: dict[str, tuple[int, int, int]] = {}
        self.trips = 1.0
        self.operations = 0.0
        self.seen = 0

    def begin(self, ids: np.ndarray) -> None:
        """Say whose turns it is."""
        if self.turns is not None:
            self.turns.begin(ids)

    def load(self, pointers: Any, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Count, and give zeros, or what was supplied for the storage; more to who waits there."""
        self._access("load", pointers.data, mask, dtype.itemsize)
        given = contents(self.values, pointers.data, mask, other, dtype)
        waited = self.turns.waited("load", pointers.data) if self.turns is not None else 0
        return given + np.array(waited).astype(dtype) if waited else given

    def store(self, pointers: Any, value: np.ndarray, mask: np.ndarray) -> None:
        """Count."""
        self._access("store", pointers.data, mask, value.dtype.itemsize)
        if self.turns is not None:
            self.turns.waited("store", pointers.data)

    def atomic(self, pointers: Any, mask: np.ndarray, dtype: np.dtype, perform: Change) -> np.ndarray:
        """Count, and give what programs would find that take turns; zeros where nothing depends on it."""
        self._access("atomic", pointers.data, mask, dtype.itemsize)
        if self.turns is None:
            return np.zeros((1, *pointers.data.shape[1:]), dtype)
        return self.turns.answer(pointers.data, mask, dtype, perform)

    def dot(self, a: Any, b: Any, shape: tuple[int, ...], precision: Any) -> np.ndarray:
        """Count two operations a multiplication; the result is zeros."""
        kind = product_kind(a, precision)
        depth = a.data.shape[-1]
        flops = 2.0 * np.prod(shape[1:]) * depth * self.weight
        self.dots[kind] = self.dots.get(kind, 0.0) + float(flops)
        tile = (int(shape[-2]), int(shape[-1]), int(depth))
        self.tiles[kind] = max(self.tiles.get(kind, (0, 0, 0)), tile, key=lambda each: each[0] * each[1])
        self._note_trips()
        return empty_product(a, shape)

    def elementwise(self, count: int) -> None:
        """Count."""
        self.operations += count * self.weight

    @property
    def effort(self) -> float:
        """Something like the time of a program: 300 operations of a product take as long as a byte."""
        return (
            sum(self.dots.values()) / 300 + sum(each["bytes"] for each in self.accesses.values()) + self.operations / 4
        )

    def _note_trips(self) -> None:
        self.trips = max(self.trips, self.length * (self.turns.rounds if self.turns is not None else 1))

    def _access(self, kind: str, pointers: np.ndarray, mask: np.ndarray, size: int) -> None:
        self.seen += 1
        if self.seen > MOST:
            raise Endless(f"more than {MOST} accesses a program, although loops over ranges run three trips")
        lead = len(pointers)
        flat, active = pointers.reshape(lead, -1).astype(np.int64), mask.reshape(lead, -1)
        origins = flat[:, 0]
        tensor = storage_of(origins[0])
        if self.sizes is not None:
            _check_bounds(kind, flat[active], size, self.sizes)
        counted = self.average if lead > 1 else np.zeros(min(len(self.average), 1), np.int64)
        elements = float(active[counted].sum(1).mean()) if len(counted) else 0.0
        if not elements:
            return
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
            self._note_trips()
        entry["bytes"] += float(bytes_)
        entry["useful"] += elements * size * self.weight

    def _sharing(self, origins: Any, active: Any) -> float:
        """Of programs at work together, the share that have a region of their own."""
        if len(origins) == 1:
            return 1.0 / self.window if self.programs > 1 else 1.0
        alive = active.any(1)
        row = origins[self.row][alive[self.row]]
        found = len(np.unique(row)) / len(row) if len(row) else 1.0
        return min(found, distinct(origins[self.spread][alive[self.spread]], self.window))


def _check_bounds(kind: str, addresses: np.ndarray, size: int, sizes: Sequence[int]) -> None:
    """See that all accesses lie in storages.

    Raises:
        OutOfBounds: one doesn't; what lies there is no memory that was counted.
    """
    if not addresses.size:
        return
    low, high = int(addresses.min()), int(addresses.max())
    first, last = storage_of(low), storage_of(high)
    for number in (first,) if first == last else np.unique((addresses >> BITS) - 1).tolist():
        inside = 0 <= number < len(sizes)
        end = high if first == last else int(addresses[(addresses >> BITS) - 1 == number].max())
        beyond = (end & ((1 << BITS) - 1)) + size - (sizes[number] if inside else 0)
        if not inside or beyond > 0:
            words = (
                f"{beyond} bytes past the end of storage {number} ({sizes[number]} bytes)" if inside else "no storage"
            )
            raise interpret.OutOfBounds(f"at this size, a {kind} of {size} bytes at {words}: mask it, or allocate more")


def count(kernel: Any, launch: dict[str, Any], values: Mapping[int, bytes] | None = None) -> dict[str, Any]:
    """Count one launch of an interpreted kernel.

    Args:
        kernel: the interpreted kernel.
        launch: as the recorder notes it; with `sizes`, the bytes of each storage, nothing beyond may be touched.
        values: contents of storages that decide what the kernel does, such as lengths or indices; all others read
            as zeros.

    Returns:
        Of a program, on average: `accesses` (bytes by sector, useful bytes, `first` bytes that weren't touched
        before, the share of programs at work together that have a region of their own), `dots` (operations by type),
        `operations`; `tiles` (rows, columns and depth of the largest product of each type), `trips` of the longest
        loop around a load or product, and how much `heaviest` of the programs does against the average.

    Raises:
        Endless: the programs don't end on these values.
        OutOfBounds: a program touches what lies in no storage.
    """
    function = kernel.rewrite()
    parts: list[Part] = []
    with interpret.batched(function, interpret.Observer()):
        placed = absent_launch(function, launch, values or {})
        arrivals = find_arrivals(placed) if uses_old_contents(kernel) or spins(kernel) else None
        sample = draw_sample(placed.programs)
        if arrivals is not None and placed.programs <= ALL:
            sample = replace(sample, strata=np.arange(placed.programs))
        for share, turns in _turns(arrivals, placed.programs):

            def watch(ids: np.ndarray, turns: Callable[[], Turns | None] = turns) -> tuple[Counter, Trips]:
                counter = Counter(ids, sample, placed.values, turns(), launch.get("sizes"))
                return counter, partial(_trips, counter)

            counters = [counter for _, counter in placed.run(sample.batches, watch)]
            parts += _parts(counters, share)
    return _joined(parts)


@dataclass(frozen=True)
class Part:
    """Programs that went the same way."""

    programs: float
    """How many of those that stand for the grid."""
    counter: Counter
    across: Mapping[tuple[str, int], float]
    """For each side of each tensor, the share of programs that have a region of their own, over all ways."""


def _turns(arrivals: Arrivals | None, programs: int) -> Iterator[tuple[float, Callable[[], Turns | None]]]:
    """What atomic operations answer, each time with the share of the programs that it is so for."""
    if arrivals is None:
        yield 1.0, lambda: None
    elif programs <= ALL:
        yield 1.0, partial(Turns, arrivals)
    else:
        for share, places in ways_to_arrive(arrivals):
            yield share, partial(Turns, arrivals, places)


def _parts(counters: list[Counter], share: float) -> Iterator[Part]:
    regions: dict[tuple[str, int], list[int]] = {}
    for counter in counters if len(counters) > 1 else []:
        for key, starts in counter.regions.items():
            regions.setdefault(key, []).extend(starts)
    # Programs that went apart share what they share across the parts of the batch.
    across = {key: len(set(starts)) / len(starts) for key, starts in regions.items() if starts}
    for counter in counters:
        yield Part(share * len(counter.average), counter, across)


def _joined(parts: list[Part]) -> dict[str, Any]:
    whole = sum(part.programs for part in parts)
    accesses: list[dict[str, Any]] = []
    dots: dict[str, float] = {}
    tiles: dict[str, tuple[int, int, int]] = {}
    for part in parts:
        share, counter = part.programs / whole, part.counter
        for access in counter.accesses.values():
            scaled = {each: access[each] * share for each in ("bytes", "useful", "first")}
            sharing = min(access["sharing"], part.across.get((access["kind"], access["tensor"]), 1.0))
            if scaled["bytes"]:
                accesses.append(access | scaled | {"sharing": sharing})
        for kind, flops in counter.dots.items():
            dots[kind] = dots.get(kind, 0.0) + flops * share
            tiles[kind] = max(tiles.get(kind, (0, 0, 0)), counter.tiles[kind], key=lambda each: each[0] * each[1])
    mean = sum(part.programs * part.counter.effort for part in parts) / whole
    return {
        "accesses": accesses,
        "dots": dots,
        "tiles": {kind: list(tile) for kind, tile in tiles.items()},
        "operations": sum(part.programs * part.counter.operations for part in parts) / whole,
        "trips": max(part.counter.trips for part in parts),
        "heaviest": max(part.counter.effort for part in parts if part.programs) / mean if mean else 1.0,
    }


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
