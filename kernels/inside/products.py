# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""Products of blocks as the tensor cores compute them: narrow operands, sums in fp32.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

from . import formats
from .formats import Unsupported, Value, is_fp8, round_to

_PRECISION = interpreter._ir.INPUT_PRECISION
_FORMATS = interpreter._ir.ScaleDotElemTypeTY


def product(a: Any, b: Any, precision: Any) -> np.ndarray:
    """The product of two blocks [programs, ..., M, K] and [programs, ..., K, N] in the given precision of fp32."""
    kind, left, right = a.dtype.scalar, a.data, b.data
    if is_fp8(kind):
        left, right = formats.from_fp8(left, kind), formats.from_fp8(right, b.dtype.scalar)
    elif left.dtype == np.int8 or left.dtype == np.uint8:
        # Sums of at most 2^24 are exact in fp32, whose products are much faster than an integer's.
        wide = np.float32 if left.shape[-1] <= 1024 else np.float64
        left, right = left.astype(wide), right.astype(wide)
    elif kind == tl.float32:
        if precision == _PRECISION.TF32:
            left, right = formats.truncate_to_tf32(left), formats.truncate_to_tf32(right)
        elif precision == _PRECISION.BF16x3:
            return _in_three(left, right)
        # Three TF32 parts and six bf16 parts lose less than the sum's own rounding.
    return _matmul(left, right)


def _in_three(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    high, other = round_to(left, tl.bfloat16), round_to(right, tl.bfloat16)
    low, lower = round_to(left - high, tl.bfloat16), round_to(right - other, tl.bfloat16)
    return _matmul(high, other + lower) + _matmul(low, other)


def _matmul(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if right.shape[0] == 1 and left.shape[0] > 1 and left.ndim == 3 and left.flags.c_contiguous:
        # Programs that share an operand share the product.
        return (left.reshape(-1, left.shape[-1]) @ right[0]).reshape(*left.shape[:2], -1)
    return np.matmul(left, right)


def added(product: np.ndarray, d: Any) -> np.ndarray:
    """A product added to what was summed so far, in that one's type."""
    if product.dtype != d.data.dtype:
        product = product.astype(d.data.dtype)
    if d.data.shape[0] > product.shape[0]:
        product = product + d.data
    else:
        product += d.data
    return round_to(product, d.dtype.scalar)


def scaled(value: Any, scale: Any, form: Any, pack: Any, other: Any, is_rhs: bool) -> Any:
    """An operand of `tl.dot_scaled`, widened to the 16-bit type that an H100 multiplies it in."""
    narrow = tl.float16 if _FORMATS.FP16 in (form, other) else tl.bfloat16
    scale = scale if hasattr(scale, "data") else None
    if form in (_FORMATS.FP16, _FORMATS.BF16):
        if scale is not None:
            raise Unsupported("tl.dot_scaled with a scale for a 16-bit operand")
        return Value(value.data, narrow)
    data = interpreter._prepare_dot_scaled_operand(value, scale, form, pack, narrow, is_rhs=is_rhs)
    return Value(round_to(data.astype(np.float32, copy=False), narrow), narrow)
