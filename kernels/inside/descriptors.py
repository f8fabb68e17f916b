# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""Tensor descriptors of many programs: blocks of a tensor, clipped at its edges, as the H100's TMA unit moves them.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import triton.language as tl

from .formats import Unsupported, Value


@dataclass
class Descriptor:
    """A tensor in memory and the block that is moved at once; each number may differ between programs."""

    base: Any
    shape: list[np.ndarray]
    strides: list[np.ndarray]
    block: list[int]
    padding: Any
    round_f32_to_tf32: bool = False

    def __post_init__(self) -> None:
        """Check what the hardware asks for.

        Raises:
            Unsupported: base or strides aren't aligned to 16 bytes, or the last axis isn't contiguous.
        """
        self.kind = self.base.get_element_ty()
        self.size = max(self.kind.primitive_bitwidth // 8, 1)
        if (self.base.data % np.uint64(16)).any():
            raise Unsupported("a tensor descriptor's base isn't aligned to 16 bytes")
        if any((stride * self.size % 16).any() for stride in self.strides[:-1]):
            raise Unsupported("a tensor descriptor's stride isn't a multiple of 16 bytes")
        if (self.strides[-1] != 1).any():
            raise Unsupported("a tensor descriptor's last axis isn't contiguous")

    def block_at(self, offsets: list[Any]) -> tuple[Any, Any]:
        """Pointers to the block at the offsets, and which of them lie inside the tensor."""
        starts = [offset.data.reshape(-1, 1) + np.arange(n) for offset, n in zip(offsets, self.block, strict=True)]
        return self._at(starts, self.block)

    def rows_at(self, rows: Any, column: Any) -> tuple[Any, Any]:
        """The same for single rows at any places, from one column on."""
        across = column.data.reshape(-1, 1) + np.arange(self.block[1])
        return self._at([rows.data, across], [rows.data.shape[1], self.block[1]])

    def _at(self, places: list[np.ndarray], block: list[int]) -> tuple[Any, Any]:
        rank = len(block)
        pointers = self.base.data.reshape(-1, *[1] * rank)
        inside = np.ones((1, *[1] * rank), bool)
        for axis, place in enumerate(places):
            shape = (-1, *[block[axis] if i == axis else 1 for i in range(rank)])
            at = place.astype(np.int64).reshape(shape)
            extent = self.shape[axis].reshape(-1, *[1] * rank)
            step = self.strides[axis].astype(np.int64).reshape(-1, *[1] * rank) * self.size
            pointers = pointers + (at * step).astype(np.uint64)
            inside = inside & (at >= 0) & (at < extent)
        return Value(pointers, self.base.dtype.scalar), Value(inside, tl.int1)
