# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""`tl.reduce` and `tl.associative_scan` over blocks of many programs, with any combine function.

Neighbours are combined in pairs, then pairs of pairs, as a warp does: sums of fp16 and bf16 round at each step, and
an order that matters is kept. fp32 and integers go through NumPy's own reductions.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import interpreter_builder

from .formats import Unsupported, Value, is_narrow


def tensor(data: np.ndarray, dtype: Any) -> Any:
    """A Triton tensor of [programs, *block] values."""
    shape = list(data.shape[1:])
    return tl.core.tensor(Value(data, dtype.scalar), tl.block_type(dtype, shape) if shape else dtype)


def reduce(block: Any, axis: Any, combine_fn: Any, keep_dims: Any = False, **kwargs: Any) -> Any:
    """`tl.reduce` over one axis of a block or of a tuple of blocks, or over all of it."""
    blocks = tuple(block) if isinstance(block, (tuple, tl.tuple)) else (block,)
    axis, keep_dims = tl.core._unwrap_if_constexpr(axis), bool(keep_dims)
    rank = len(blocks[0].shape)
    data = [b.handle.data for b in blocks]
    kinds = [b.dtype.scalar for b in blocks]
    interpreter_builder.observer.elementwise(data[0].size // data[0].shape[0])
    quick = _QUICK.get(combine_fn) if len(blocks) == 1 else None
    if quick is not None and not (quick is np.add and is_narrow(kinds[0])):
        axes = tuple(range(1, rank + 1)) if axis is None else axis % rank + 1
        results = [quick.reduce(data[0], axis=axes, keepdims=keep_dims, dtype=data[0].dtype)]
    else:
        if axis is None:
            data, place = [d.reshape(d.shape[0], -1) for d in data], 1
        else:
            place = axis % rank + 1
        results = _pairwise([np.moveaxis(d, place, 1) for d in data], kinds, combine_fn)
        if keep_dims:
            shape = (
                [1] * rank if axis is None else [1 if i == axis % rank else n for i, n in enumerate(blocks[0].shape)]
            )
            results = [r.reshape(r.shape[0], *shape) for r in results]
    tensors = tuple(tensor(r, kind) for r, kind in zip(results, kinds, strict=True))
    return tensors if isinstance(block, (tuple, tl.tuple)) else tensors[0]


def scan(block: Any, axis: Any, combine_fn: Any, reverse: Any = False, **kwargs: Any) -> Any:
    """`tl.associative_scan` along one axis of a block or of a tuple of blocks."""
    blocks = tuple(block) if isinstance(block, (tuple, tl.tuple)) else (block,)
    along: Any = tl.core._unwrap_if_constexpr(axis)
    place = along % len(blocks[0].shape) + 1
    kinds = [b.dtype.scalar for b in blocks]
    data = [np.moveaxis(b.handle.data, place, 1) for b in blocks]
    interpreter_builder.observer.elementwise(data[0].size // data[0].shape[0])
    if reverse:
        data = [d[:, ::-1] for d in data]
    quick = _SCANS.get(combine_fn) if len(blocks) == 1 and not is_narrow(kinds[0]) else None
    if quick is not None:
        data = [quick.accumulate(data[0], axis=1, dtype=data[0].dtype)]
    else:
        data = _doubling(data, kinds, combine_fn)
    if reverse:
        data = [d[:, ::-1] for d in data]
    tensors = tuple(tensor(np.moveaxis(d, 1, place), kind) for d, kind in zip(data, kinds, strict=True))
    return tensors if isinstance(block, (tuple, tl.tuple)) else tensors[0]


def _pairwise(data: list[np.ndarray], kinds: list[Any], combine_fn: Any) -> list[np.ndarray]:
    data = _same_lead(data)
    while data[0].shape[1] > 1:
        data = _combined([d[:, 0::2] for d in data], [d[:, 1::2] for d in data], kinds, combine_fn)
    return [d[:, 0] for d in data]


def _doubling(data: list[np.ndarray], kinds: list[Any], combine_fn: Any) -> list[np.ndarray]:
    data, step = _same_lead(data), 1
    while step < data[0].shape[1]:
        later = _combined([d[:, :-step] for d in data], [d[:, step:] for d in data], kinds, combine_fn)
        data = [np.concatenate([d[:, :step], new], axis=1) for d, new in zip(data, later, strict=True)]
        step *= 2
    return data


def _same_lead(data: list[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(d) for d in np.broadcast_arrays(*data)]


def _combined(left: list[np.ndarray], right: list[np.ndarray], kinds: list[Any], combine_fn: Any) -> list[np.ndarray]:
    """Call a combine function, which is written for scalars, on all pairs at once: each is like a program."""
    shape = left[0].shape
    operands = [
        tl.core.tensor(Value(np.ascontiguousarray(d).reshape(-1), kind), kind)
        for side in (left, right)
        for d, kind in zip(side, kinds, strict=True)
    ]
    outer, interpreter_builder.combining = interpreter_builder.combining, True
    try:
        returned = combine_fn(*operands)
    finally:
        interpreter_builder.combining = outer
    returned = tuple(returned) if isinstance(returned, (tuple, tl.tuple)) else (returned,)
    if len(returned) != len(kinds):
        raise Unsupported(f"a combine function of {len(kinds)} values returned {len(returned)}")
    results = [
        r.handle.data if isinstance(r, tl.core.tensor) else np.array([getattr(r, "value", r)], left[i].dtype)
        for i, r in enumerate(returned)
    ]
    size = operands[0].handle.data.size
    return [np.broadcast_to(r, (size,)).astype(left[i].dtype, copy=False).reshape(shape) for i, r in enumerate(results)]


_QUICK = {
    tl.standard._sum_combine: np.add,
    tl.standard._elementwise_max: np.fmax,
    tl.standard._elementwise_min: np.fmin,
    tl.standard._xor_combine: np.bitwise_xor,
    tl.standard._or_combine: np.bitwise_or,
}
_SCANS = {tl.standard._sum_combine: np.add, tl.standard._prod_combine: np.multiply}
