# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""Counts what a launch does: bytes by sector, products, other arithmetic, from a sample of its programs.

The sampled programs run in the batched interpreter on addresses without memory behind them: loads give zeros.
Loops run a few of their trips, and what those do is weighted to stand for all.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import TensorHandle

from . import interpret

SECTOR = 32
"""Bytes that the memory system moves at least."""
WINDOW = 264
"""Consecutive programs taken to run at once: two for each of 132 multiprocessors."""
SAMPLE = 24
TRIPS = 3
EXACT = 4
"""Programs of the sample whose sectors are counted; the rest only show who shares what."""


_ELEMENTS = {"bool": "int1"}
"""Torch's names of types where Triton's differ."""


class Counter(interpret.Observer):
    """Collects accesses and arithmetic of one batch of programs."""

    def __init__(self, spread: float) -> None:
        self.spread = spread
        self.weight = 1.0
        self.depth = 0
        self.accesses: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.dots: dict[str, float] = {}
        self.trips = 1.0
        self.operations = 0.0

    def load(self, pointers: Any, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Count, and give zeros."""
        self._access("load", pointers.data, mask, dtype.itemsize)
        return np.zeros((1, *pointers.data.shape[1:]), dtype)

    def store(self, pointers: Any, value: np.ndarray, mask: np.ndarray) -> None:
        """Count."""
        self._access("store", pointers.data, mask, pointers.get_element_ty().primitive_bitwidth // 8)

    def dot(self, a: Any, b: Any, shape: tuple[int, ...], precision: Any) -> np.ndarray:
        """Count two operations a multiplication; the result is zeros."""
        kind = f"fp{a.dtype.primitive_bitwidth}"
        if kind == "fp32":
            kind = {"TF32": "tf32", "TF32x3": "tf32x3"}.get(str(precision).rsplit(".", 1)[-1], "fp32")
        flops = 2.0 * np.prod(shape[1:]) * a.data.shape[-1] * self.weight
        self.dots[kind] = self.dots.get(kind, 0.0) + float(flops)
        if self.depth:
            self.trips = max(self.trips, self.weight * TRIPS)
        return np.zeros((1, *shape[1:]), np.float32)

    def elementwise(self, count: int) -> None:
        """Count."""
        self.operations += count * self.weight

    def _access(self, kind: str, pointers: np.ndarray, mask: np.ndarray, size: int) -> None:
        lead = len(pointers)
        flat, seen = pointers.reshape(lead, -1).astype(np.int64), mask.reshape(lead, -1)
        lowest = np.where(seen, flat, np.int64(2**62)).min(1)
        if lead == 1:
            lowest = np.repeat(lowest, SAMPLE)
        picked = np.linspace(0, lead - 1, min(EXACT, lead)).astype(int)
        sectors = useful = 0.0
        for row in picked:
            touched = flat[row][seen[row]]
            useful += touched.size * size
            if touched.size:
                blocks = np.sort(touched // SECTOR)
                sectors += 1 + np.count_nonzero(np.diff(blocks))
        sectors, useful = sectors / len(picked), useful / len(picked)
        if not sectors:
            return
        key = (kind, lowest.tobytes(), round(useful))
        entry = self.accesses.get(key)
        if entry is None:
            active = lowest[lowest < 2**62]
            entry = self.accesses[key] = {
                "kind": kind, "tensor": int(active[0] >> 44) - 1, "bytes": 0.0, "useful": 0.0, "first": 0.0,
                "sharing": _distinct(active, self.spread), "looped": self.depth > 0,
            }  # fmt: skip
            entry["first"] = sectors * SECTOR * self.weight
        entry["bytes"] += sectors * SECTOR * self.weight
        entry["useful"] += useful * self.weight


def _distinct(origins: np.ndarray, window: float) -> float:
    """How many different regions `window` programs touch a program of the window: 1 if each has its own.

    From the number of distinct ones in the sample, by the expectation d = u (1 - (1 - 1/u)^s).
    """
    sample, found = len(origins), len(np.unique(origins))
    if found >= sample:
        return 1.0
    low, high = 1.0, max(window, 1.0)
    for _ in range(40):
        middle = (low * high) ** 0.5
        if middle * (1 - (1 - 1 / middle) ** sample) < found:
            low = middle
        else:
            high = middle
    return min(high / max(window, 1.0), 1.0)


def count(kernel: Any, launch: dict[str, Any]) -> dict[str, Any]:
    """Count one launch of an interpreted kernel.

    Returns:
        Per program: `accesses` (bytes by sector, useful bytes, `first` bytes that weren't touched before, the
        share of programs at work together that have a region of their own), `dots` (operations by type),
        `operations`, `trips` of the longest loop around a product.
    """
    grid = tuple(launch["grid"])
    total = grid[0] * grid[1] * grid[2]
    window = min(WINDOW, total)
    start = (total - window) // 2
    draw = np.random.Generator(np.random.Philox(total))
    ids = start + np.sort(draw.choice(window, min(SAMPLE, window), replace=False))
    counter = Counter(window)
    arguments = {name: _value(value) for name, value in launch["arguments"].items()} | launch["constexprs"]
    function = kernel.rewrite()

    def sampled(*bounds: Any) -> Iterator[int]:
        return _trips(counter, builtins.range(*(int(bound) for bound in bounds)))

    function.__globals__["range"] = sampled
    with interpret.batched(function, counter):
        interpret.run_batch(function, arguments, grid, ids)
    return {
        "accesses": list(counter.accesses.values()),
        "dots": counter.dots,
        "operations": counter.operations,
        "trips": counter.trips,
    }


def _trips(counter: Counter, whole: range) -> Iterator[int]:
    if not whole:
        return
    places = sorted({0, len(whole) // 2, len(whole) - 1})
    outer = counter.weight
    counter.weight = outer * len(whole) / len(places)
    counter.depth += 1
    for place in places:
        yield whole[place]
    counter.weight = outer
    counter.depth -= 1


def _value(described: dict[str, Any]) -> Any:
    if "tensor" in described:
        name = str(described["dtype"])
        kind = tl.pointer_type(getattr(tl, _ELEMENTS.get(name, name)))
        address = (described["tensor"] + 1 << 44) + described["offset"]
        return tl.tensor(TensorHandle(np.array([address], dtype=np.uint64), kind), kind)
    return interpreter._implicit_cvt(described["value"])
