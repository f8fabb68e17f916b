# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""A launch on addresses without memory behind them: its arguments, what loads give, and how it runs in batches.

A storage is 2^44 bytes of address space, its number in the bits above.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import interpreter_semantic

from . import interpret
from .formats import Value
from .operands import decode_constant
from .sampling import ways

MOST = 20_000
"""Accesses of one batch, beyond which its loops are taken not to end."""
BITS = 44
"""Of an address within a storage."""
_ELEMENTS = {
    "bool": tl.int1, "float8_e4m3fn": tl.float8e4nv, "float8_e5m2": tl.float8e5, "float64": tl.float64,
    "float32": tl.float32, "float16": tl.float16, "bfloat16": tl.bfloat16,
}  # fmt: skip

Watching = TypeVar("Watching", bound=interpret.Observer)


class Endless(Exception):
    """The sampled programs don't come to an end on zeros."""


def storage_of(address: Any) -> int:
    """The number of the storage that an address lies in."""
    return (int(address) >> BITS) - 1


def contents(
    values: Mapping[int, bytes], pointers: np.ndarray, mask: np.ndarray, other: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """What a load gives: zeros, or what was supplied for the storage."""
    held = values.get(storage_of(pointers.reshape(-1)[0]))
    if held is None:
        return np.zeros((1, *pointers.shape[1:]), dtype)
    data = np.frombuffer(held, np.uint8)
    data = data[: len(data) // dtype.itemsize * dtype.itemsize].view(dtype)
    at = (pointers.astype(np.int64) & ((1 << BITS) - 1)) // dtype.itemsize
    inside = mask & (at < len(data))
    found = data[np.where(inside, at, 0)] if len(data) else np.zeros(at.shape, dtype)
    return np.where(inside, found, np.where(mask, np.zeros((), dtype), other))


def empty_product(a: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of the type that products of `a` are summed in."""
    name = a.dtype.scalar.name
    dtype = np.int32 if name in ("int8", "uint8") else np.float64 if name == "fp64" else np.float32
    return np.zeros((1, *shape[1:]), dtype)


@dataclass(frozen=True)
class Absent:
    """A launch; to be used inside `interpret.batched`."""

    function: Any
    """The kernel, rewritten."""
    arguments: dict[str, Any]
    grid: tuple[int, int, int]
    values: Mapping[int, bytes]
    """Contents of storages, by number."""

    @property
    def programs(self) -> int:
        """How many the grid has."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    def run(
        self, batches: Iterable[np.ndarray], watch: Callable[[np.ndarray], tuple[Watching, Trips]]
    ) -> Iterator[tuple[np.ndarray, Watching]]:
        """Run batches of programs, each in parts if its programs go different ways.

        Args:
            batches: linear ids.
            watch: for the ids of a batch or a part, a fresh observer and the trips that loops take.

        Yields:
            The ids of each batch or part that came to its end, and its observer.
        """
        waiting = list(batches)[::-1]
        while waiting:
            part = waiting.pop()
            observer, trips = watch(part)
            interpreter.interpreter_builder.observer = observer
            try:
                with _ranges(self.function, trips):
                    interpret.run_batch(self.function, self.arguments, self.grid, part)
            except interpret.Diverged as diverged:
                if len(part) == 1:
                    raise interpret.Unsupported("a condition or a bound that is a block, not a number") from None
                waiting += ways(part, diverged.choices)
            else:
                yield part, observer


Trips = Callable[[range], Iterator[int]]
"""Which trips of a loop over a range are run."""


def absent_launch(function: Any, launch: dict[str, Any], values: Mapping[int, bytes]) -> Absent:
    """Place a launch, as the recorder notes it, on addresses without memory."""
    arguments = {name: _value(value) for name, value in launch["arguments"].items()}
    arguments |= {name: decode_constant(value) for name, value in launch["constexprs"].items()}
    grid = (int(launch["grid"][0]), int(launch["grid"][1]), int(launch["grid"][2]))
    return Absent(function, arguments, grid, values)


@contextmanager
def _ranges(function: Any, trips: Trips) -> Generator[None]:
    """Make the kernel's loops over ranges run some of their trips."""

    def some(*bounds: Any) -> Iterator[int]:
        return trips(builtins.range(*(int(bound) for bound in bounds)))

    def named(arg1: Any, arg2: Any = None, step: Any = None, **kwargs: Any) -> Iterator[int]:
        start, end = (0, arg1) if arg2 is None else (arg1, arg2)
        return some(start, end, 1 if step is None else step)

    names = function.__globals__
    kept, ranges = names.get("range"), [(module, module.range) for module in (tl, tl.core)]
    names["range"] = some
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


def _pointer(tensor: dict[str, Any]) -> Any:
    kind = tl.pointer_type(_ELEMENTS.get(tensor["dtype"]) or getattr(tl, str(tensor["dtype"])))
    size = max(kind.element_ty.primitive_bitwidth // 8, 1)
    address = (int(tensor["t"]) + 1 << BITS) + int(tensor["offset"]) * size
    return tl.tensor(Value(np.array([address], dtype=np.uint64), kind), kind)
