# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""How numbers lie in memory and how the interpreter holds them while it computes.

NumPy has no bf16, no fp8 and a slow fp16. So fp16 and bf16 are *held* as fp32 whose values lie on the narrow type's
grid: arithmetic is done in fp32 and rounded to the grid, to nearest even, which gives what an instruction of the
narrow type gives (Figueroa 1995: rounding twice is harmless for + - * / and square roots from 2p+2 bits on). fp8 is
held as its bits, since a GPU converts it but doesn't calculate with it.

What a GPU does was read in the PTX that Triton 3.9 writes for sm_90: `cvt.rn.bf16.f32`, `cvt.rn.satfinite.e4m3x2`,
`cvt.rzi.s32.f32`, `cvt.rna.tf32.f32` (three-part products only).

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import TensorHandle

SMALL = 1024
"""Elements below which NumPy converts faster than a call of torch costs."""
_FP32, _ADDRESS = np.dtype(np.float32), np.dtype(np.uint64)
_IN_MEMORY: dict[str, np.dtype] = {}
_FP8 = {tl.float8e4nv: (3, 7, 0x7E), tl.float8e5: (2, 15, 0x7B)}
"""Bits of the mantissa, bias of the exponent, code of the largest finite number."""


class Unsupported(Exception):
    """The interpreter doesn't know an operation, or the GPU doesn't."""


class Value(TensorHandle):
    """A handle that may hold its numbers wider than its type says: fp16 and bf16 lie in fp32."""

    def __post_init__(self) -> None:
        """Skip the check of the width."""


def memory_type(kind: Any) -> np.dtype:
    """The NumPy type whose bits a Triton type has in memory."""
    if kind.is_ptr():
        return _ADDRESS
    found = _IN_MEMORY.get(kind.name)
    if found is None:
        found = _IN_MEMORY[kind.name] = interpreter._get_np_dtype(kind)
    return found


def held_type(kind: Any) -> np.dtype:
    """The NumPy type that values of a scalar Triton type are held in."""
    return _FP32 if is_narrow(kind) else memory_type(kind)


def is_narrow(kind: Any) -> bool:
    """Whether a type is held as fp32 on its grid."""
    return kind == tl.float16 or kind == tl.bfloat16


def is_fp8(kind: Any) -> bool:
    """Whether a type is one of the 8-bit floats."""
    return kind.primitive_bitwidth == 8 and kind.is_floating()


def hold(stored: np.ndarray, kind: Any) -> np.ndarray:
    """From memory to how the type is held."""
    if kind == tl.bfloat16:
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return _half_to_float(stored) if kind == tl.float16 else stored


def stored(held: np.ndarray, kind: Any) -> np.ndarray:
    """From how the type is held to memory."""
    if kind == tl.bfloat16:
        return (np.ascontiguousarray(held).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    if kind == tl.float16:
        return _float_to_half(held)
    return held


def round_to(values: np.ndarray, kind: Any) -> np.ndarray:
    """Round fp32 or fp64 to the grid of fp16 or bf16, to nearest even; other types come back as they are."""
    if kind == tl.bfloat16:
        return _round_bf16_once(values) if values.dtype == np.float64 else _round_bf16(values)
    if kind == tl.float16:
        return values.astype(np.float16).astype(np.float32) if values.dtype == np.float64 else _round_fp16(values)
    return values


def truncate(values: np.ndarray, kind: Any) -> np.ndarray:
    """Round fp32 to the grid of fp16 or bf16, towards zero."""
    if kind == tl.bfloat16:
        return (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    nearest = values.astype(np.float16)
    over = np.abs(nearest.astype(np.float32)) > np.abs(values)
    bits = nearest.view(np.uint16)
    return np.where(over, bits - np.uint16(1), bits).view(np.float16).astype(np.float32)


def truncate_to_tf32(values: np.ndarray) -> np.ndarray:
    """What the tensor cores see of fp32: they ignore the low 13 bits of an operand, and Triton doesn't round before."""
    return (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def from_fp8(codes: np.ndarray, kind: Any) -> np.ndarray:
    """The fp32 values of 8-bit floats."""
    table = _TABLES.get(kind)
    if table is None:
        half = interpreter._convert_float(codes, kind, tl.float16, None)
        return half.view(np.float16).astype(np.float32)
    return table[codes]


def to_fp8(values: np.ndarray, kind: Any, towards_zero: bool = False) -> np.ndarray:
    """The 8-bit floats nearest to fp32 values, ties to even; what is too large becomes the largest (`satfinite`)."""
    if kind not in _FP8:
        mode = interpreter._ir.ROUNDING_MODE.RTZ if towards_zero else interpreter._ir.ROUNDING_MODE.RTNE
        return interpreter._convert_float(values.astype(np.float32), tl.float32, kind, mode)
    mantissa, bias, largest = _FP8[kind]
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    size = (bits & np.uint32(0x7FFFFFFF)).view(np.float32)
    magnitude = size.view(np.uint32).astype(np.int64)
    drop = 23 - mantissa
    if not towards_zero:
        magnitude = magnitude + ((magnitude >> drop) & 1) + (1 << (drop - 1)) - 1
    normal = (magnitude >> drop) - ((127 - bias) << mantissa)
    steps = np.minimum(size, 1.0) * np.float32(2.0 ** (bias - 1 + mantissa))
    small = (np.floor(steps) if towards_zero else np.rint(steps)).astype(np.int64)
    code = np.minimum(np.where(size < 2.0 ** (1 - bias), small, normal), largest)
    code = np.where(np.isnan(size), 0x7F, code)
    return (code | ((bits >> np.uint32(24)) & np.uint32(0x80))).astype(np.uint8)


def to_integer(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Towards zero and into the type's range, NaN to 0, as `cvt.rzi` does."""
    limits = np.iinfo(kind)
    wide = values.astype(np.float64)
    inside = (wide > float(limits.min) - 1) & (wide < float(limits.max) + (0 if limits.bits == 64 else 1))
    result = np.where(inside, wide, 0).astype(kind)
    if not inside.all():
        result[wide >= float(limits.max)] = limits.max
        result[wide <= float(limits.min)] = limits.min
    return result


def _half_to_float(values: np.ndarray) -> np.ndarray:
    if values.size < SMALL:
        return values.astype(np.float32)
    return _tensor(values).to(torch.float32).numpy()


def _float_to_half(values: np.ndarray) -> np.ndarray:
    if values.size < SMALL:
        return values.astype(np.float16)
    return _tensor(values).to(torch.float16).numpy()


def _round_fp16(values: np.ndarray) -> np.ndarray:
    if values.size < SMALL:
        return values.astype(np.float16).astype(np.float32)
    return _tensor(values).to(torch.float16).to(torch.float32).numpy()


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _round_bf16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded &= np.uint32(0xFFFF0000)
    result = rounded.view(np.float32)
    unordered = np.isnan(bits.view(np.float32))
    if unordered.any():
        result[unordered] = np.nan
    return result


def _round_bf16_once(values: np.ndarray) -> np.ndarray:
    """From fp64 in one step; through fp32 a value close to a tie could round to the wrong side."""
    bits = np.ascontiguousarray(values).view(np.uint64)
    rounded = (bits + ((bits >> np.uint64(45)) & np.uint64(1)) + np.uint64((1 << 44) - 1)) & ~np.uint64((1 << 45) - 1)
    return _round_bf16(np.where(np.isfinite(values), rounded.view(np.float64), values).astype(np.float32))


def _table(mantissa: int, bias: int, infinite: bool) -> np.ndarray:
    codes = np.arange(256)
    exponent, fraction = (codes & 0x7F) >> mantissa, codes & ((1 << mantissa) - 1)
    scale = 2.0 ** (np.maximum(exponent, 1) - bias - mantissa)
    size = (fraction + np.where(exponent > 0, 1 << mantissa, 0)) * scale
    if infinite:
        size = np.where((codes & 0x7F) == 0x7C, np.inf, np.where((codes & 0x7F) > 0x7C, np.nan, size))
    else:
        size = np.where((codes & 0x7F) == 0x7F, np.nan, size)
    return np.where(codes & 0x80, -size, size).astype(np.float32)


_TABLES = {tl.float8e4nv: _table(3, 7, infinite=False), tl.float8e5: _table(2, 15, infinite=True)}
