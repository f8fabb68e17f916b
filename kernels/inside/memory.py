# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""Reads and writes memory at blocks of addresses.

Triton's interpreter goes address by address. Where all of a block's active lanes lie in one known region, which is
the rule, NumPy gathers and scatters some fifty times faster.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from triton.runtime import interpreter

_memory = interpreter._interpreter
SMALL = 256
"""Lanes below which the plain way is faster."""


class Memory:
    """All of the process's memory, of which some regions are known."""

    def __init__(self, regions: Sequence[tuple[int, int]]) -> None:
        """Take regions as (address, bytes); they may touch but not overlap."""
        ordered = sorted((address, size, number) for number, (address, size) in enumerate(regions) if size)
        self.starts = [address for address, _, _ in ordered]
        self.ends = [address + size for address, size, _ in ordered]
        self.numbers = [number for _, _, number in ordered]
        """Each region's place in the order in which they were given."""
        self._firsts = np.array(self.starts, dtype=np.uint64)
        self._bounds = np.array(self.ends, dtype=np.uint64)
        self._last = 0
        self._views: dict[tuple[int, np.dtype], np.ndarray] = {}

    def read(self, pointers: np.ndarray, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """What lies at the active lanes, and `other` at the rest; those may point anywhere."""
        found = self._places(pointers, mask, dtype)
        if found is None:
            return _memory.load(pointers, mask, other, dtype)
        view, places = found
        values = view.take(places)
        return values if mask.all() else np.where(mask, values, other)

    def write(self, pointers: np.ndarray, value: np.ndarray, mask: np.ndarray) -> None:
        """Write the active lanes; of several at one address the last stays."""
        found = self._places(pointers, mask, value.dtype)
        if found is None:
            _memory.store(pointers, value, mask)
        elif mask.all():
            found[0][found[1]] = value
        else:
            found[0][found[1][mask]] = value[mask]

    def region(self, pointers: np.ndarray, mask: np.ndarray, size: int) -> tuple[int, bool] | None:
        """The known region that all lanes lie in, or all active ones (then false); none if there isn't just one."""
        # Lanes that are off mostly lie close by: looking at all of them first saves picking out the active ones.
        if self._within(pointers, size):
            return self._last, True
        active = pointers[mask]
        return (self._last, False) if self._within(active, size) else None

    def outside(self, pointers: np.ndarray, size: int) -> np.ndarray:
        """Which addresses have no known region around them."""
        if not self.starts:
            return np.ones(pointers.shape, bool)
        region = np.searchsorted(self._firsts, pointers, side="right").astype(np.int64) - 1
        beyond = pointers + np.uint64(size) > self._bounds[np.maximum(region, 0)]
        # Close to the end of the address space a sum wraps around.
        return (region < 0) | beyond | (pointers > np.uint64(2**64 - 1 - size))

    def _within(self, addresses: np.ndarray, size: int) -> bool:
        if not addresses.size or not self.starts:
            return False
        low, high = int(addresses.min()), int(addresses.max()) + size
        if not (self.starts[self._last] <= low and high <= self.ends[self._last]):
            found = int(np.searchsorted(self._firsts, np.uint64(low), side="right")) - 1
            if found < 0 or high > self.ends[found]:
                return False
            self._last = found
        return True

    def _places(self, pointers: np.ndarray, mask: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray] | None:
        if pointers.size < SMALL:
            return None
        found = self.region(pointers, mask, dtype.itemsize)
        if found is None:
            return None
        region, whole = found
        start = self.starts[region]
        places = pointers - np.uint64(start)
        if not whole:
            places = np.where(mask, places, np.uint64(0))
        if dtype.itemsize > 1:
            if int(np.bitwise_or.reduce(places, axis=None)) % dtype.itemsize:
                return None
            places >>= np.uint64(dtype.itemsize.bit_length() - 1)
        view = self._views.get((region, dtype))
        if view is None:
            count = (self.ends[region] - start) // dtype.itemsize
            raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(start)
            view = self._views[(region, dtype)] = np.frombuffer(memoryview(raw), dtype)
        return view, places.view(np.int64)
