# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""What may look at an interpreted launch: every load, store, product and atomic passes an `Observer`.

    run_launch(kernel, arguments, grid, BoundsObserver([(tensor.data_ptr(), tensor.nbytes)]))

An access outside that tensor raises `OutOfBounds`; lanes that a mask turns off may point anywhere.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .atomics import Change
from .memory import Memory


class OutOfBounds(Exception):
    """A kernel touches memory that belongs to no storage of its launch."""


class Observer:
    """Is told what the programs of a batch do; the base class lets it happen.

    Arrays have a leading axis of programs, of length 1 where all programs do the same. Values are as in memory: bf16
    as uint16. A batch whose programs go apart is undone and run again in parts: then `discard` is called, and what
    was seen since the last `begin` didn't happen.
    """

    memory = Memory(())
    """Where loads and stores go."""
    undo: list[tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None
    """While this is a list, what is overwritten is kept in it."""

    def begin(self, ids: np.ndarray) -> None:
        """See which programs run next, by linear id."""

    def discard(self) -> None:
        """See that what the programs did since `begin` is undone."""

    def load(self, pointers: Any, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Read memory at addresses [programs, ...]."""
        return self.memory.read(pointers.data, mask, other, dtype)

    def store(self, pointers: Any, value: np.ndarray, mask: np.ndarray) -> None:
        """Write memory."""
        self._keep(pointers.data, mask, value.dtype)
        self.memory.write(pointers.data, value, mask)

    def atomic(self, pointers: Any, mask: np.ndarray, dtype: np.dtype, perform: Change) -> np.ndarray:
        """Change memory by calling `perform`, and return what it returns: the old contents, of `dtype`."""
        self._keep(pointers.data, mask, dtype)
        return perform()

    def dot(self, a: Any, b: Any, shape: tuple[int, ...], precision: Any) -> np.ndarray | None:
        """See a product; anything but none is taken for its result."""

    def elementwise(self, count: int) -> None:
        """See an operation on `count` elements a program."""

    def _keep(self, pointers: np.ndarray, mask: np.ndarray, dtype: np.dtype) -> None:
        if self.undo is not None:
            before = self.memory.read(pointers, mask, np.zeros(pointers.shape, dtype), dtype)
            self.undo.append((pointers, mask, before))

    def roll_back(self) -> None:
        """Write back what was overwritten since `undo` was set to an empty list."""
        for pointers, mask, before in reversed(self.undo or []):
            self.memory.write(pointers, before, mask)
        self.discard()


class BoundsObserver(Observer):
    """Refuses every access outside known regions of memory."""

    def __init__(self, regions: Sequence[tuple[int, int]]) -> None:
        """Take regions as (address, bytes); they may touch but not overlap."""
        self.memory = Memory(regions)
        self._ids = np.zeros(0, np.int64)

    def begin(self, ids: np.ndarray) -> None:
        """Note the programs, for messages."""
        self._ids = ids

    def load(self, pointers: Any, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Read memory inside the regions.

        Raises:
            OutOfBounds: an active lane reads elsewhere.
        """
        self._check("load", pointers.data, mask, dtype.itemsize)
        return super().load(pointers, mask, other, dtype)

    def store(self, pointers: Any, value: np.ndarray, mask: np.ndarray) -> None:
        """Write memory inside the regions.

        Raises:
            OutOfBounds: an active lane writes elsewhere.
        """
        self._check("store", pointers.data, mask, value.dtype.itemsize)
        super().store(pointers, value, mask)

    def atomic(self, pointers: Any, mask: np.ndarray, dtype: np.dtype, perform: Change) -> np.ndarray:
        """Change memory inside the regions.

        Raises:
            OutOfBounds: an active lane changes memory elsewhere.
        """
        self._check("atomic", pointers.data, mask, dtype.itemsize)
        return super().atomic(pointers, mask, dtype, perform)

    def _check(self, kind: str, pointers: np.ndarray, mask: np.ndarray, size: int) -> None:
        if pointers.size == 0 or self.memory.region(pointers, mask, size) is not None:
            return
        active = pointers[mask]
        outside = self.memory.outside(active, size)
        if outside.any():
            raise OutOfBounds(self._message(kind, pointers, mask, size, int(np.flatnonzero(outside)[0])))

    def _message(self, kind: str, pointers: np.ndarray, mask: np.ndarray, size: int, which: int) -> str:
        lane = np.argwhere(mask)[which]
        address = int(pointers[tuple(lane)])
        starts, ends = self.memory.starts, self.memory.ends
        who = f"program {self._ids[lane[0]]}" if pointers.shape[0] == len(self._ids) else "every program"
        who += f", element {[int(i) for i in lane[1:]]} of its block" if len(lane) > 1 else ""
        if not starts:
            return f"a {kind} of {size} bytes by {who}, although the launch was given no storage"
        before = [max(start - address, 0) for start in starts]
        behind = [max(address + size - end, 0) for end in ends]
        near = min(range(len(starts)), key=lambda index: before[index] + behind[index])
        length = ends[near] - starts[near]
        if before[near]:
            where = f"{before[near]} bytes before the start"
        elif address < ends[near]:
            where = f"{ends[near] - address} bytes before the end"
        else:
            where = f"{address - ends[near]} bytes past the end"
        return (
            f"a {kind} of {size} bytes at {where} of storage {self.memory.numbers[near]} ({length} bytes) by {who}: "
            "mask it, or correct the address"
        )
