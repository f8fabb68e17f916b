# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
# pyright: reportIncompatibleMethodOverride=false
# ruff: noqa: D102
"""The operations of Triton's language over many programs at once.

Every value carries a leading axis of programs, of length 1 where all programs agree, so that one NumPy operation
serves them all. How numbers are held is told in `formats.py`.

A product and a sum that a compiler may contract into one instruction are two roundings here.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, InterpreterOptions

from . import atomics, formats, libdevice, products
from .descriptors import Descriptor
from .formats import Unsupported, Value, held_type, hold, is_fp8, is_narrow, memory_type, round_to, stored
from .observe import Observer

OPTIONS = InterpreterOptions(
    # Checks of overflow that only a debug build makes cost three operations each.
    sanitize_overflow=False,
    supported_fp8_dtypes=("fp8e5", "fp8e4nv", "fp8e4b15"),
    allowed_dot_input_precisions=("tf32", "tf32x3", "ieee", "bf16x3", "bf16x6"),
)
"""What the compiler for an H100 allows."""
POLLS = 5_000
"""How often a program may ask memory the same and get the same answer, before it is taken to wait for ever."""
PRINTS = 100
_EXACT = (np.fmin, np.fmax, np.minimum, np.maximum, np.fmod, np.floor, np.ceil, np.negative, np.abs)
"""Operations whose result needs no rounding."""
_WRAPPING: dict[Any, Any] = {
    np.add: np.bitwise_xor,
    np.subtract: np.bitwise_xor,
    np.multiply: np.bitwise_and,
}
"""Arithmetic on single bits."""
_HARDWARE = interpreter._ir.ROUNDING_MODE


class Diverged(Exception):
    """The programs of one batch would go different ways."""

    def __init__(self, choices: np.ndarray | None = None) -> None:
        """`choices` has for each program what its way depends on."""
        super().__init__("the programs of a batch go different ways")
        self.choices = choices


class Stuck(Exception):
    """A program waits for what no program that runs before it or with it brings about."""


class BatchedBuilder(InterpreterBuilder):
    """The interpreter's operations over values of shape [programs or 1, *block]."""

    programs: tuple[np.ndarray, np.ndarray, np.ndarray]
    observer: Observer
    combining = False
    """Whether a combine function runs; its leading axis isn't the programs'."""
    polls: dict[Any, tuple[bytes, int]]
    printed = 0

    # --- where and what ---

    def create_get_program_id(self, axis):
        return Value(self.programs[axis], tl.int32)

    def create_make_range(self, ret_ty, start, stop):
        return Value(np.arange(start, stop, dtype=np.int32)[None], tl.int32)

    def get_fp16(self, value):
        return Value(round_to(np.array([value], np.float64), tl.float16), tl.float16)

    def get_bf16(self, value):
        return Value(round_to(np.array([value], np.float64), tl.bfloat16), tl.bfloat16)

    def get_null_value(self, kind):
        return Value(np.zeros(1, held_type(kind.scalar)), kind.scalar)

    # --- shapes ---

    def create_splat(self, ret_ty, arg):
        shape, rank = ret_ty.shape, len(ret_ty.shape)
        data = arg.data.reshape(arg.data.shape[0], *[1] * rank)
        return Value(np.broadcast_to(data, (data.shape[0], *shape)), arg.dtype.scalar)

    def create_unsplat(self, arg):
        return Value(arg.data.reshape(arg.data.shape[0], -1)[:, 0], arg.dtype.scalar)

    def create_expand_dims(self, arg, axis):
        return Value(np.expand_dims(arg.data, axis + 1), arg.dtype.scalar)

    def create_broadcast(self, arg, shape):
        return Value(np.broadcast_to(arg.data, (arg.data.shape[0], *shape)), arg.dtype.scalar)

    def create_reshape(self, arg, shape, allow_reorder):
        return Value(arg.data.reshape(arg.data.shape[0], *shape), arg.dtype.scalar)

    def create_trans(self, arg, perm):
        return Value(np.transpose(arg.data, (0, *(p + 1 for p in perm))), arg.dtype.scalar)

    def create_cat(self, lhs, rhs):
        lead = max(lhs.data.shape[0], rhs.data.shape[0])
        parts = [np.broadcast_to(h.data, (lead, *h.data.shape[1:])) for h in (lhs, rhs)]
        return Value(np.concatenate(parts, axis=1), lhs.dtype.scalar)

    def create_join(self, lhs, rhs):
        return Value(np.stack(np.broadcast_arrays(lhs.data, rhs.data), axis=-1), lhs.dtype.scalar)

    def create_split(self, val):
        return Value(val.data[..., 0], val.dtype.scalar), Value(val.data[..., 1], val.dtype.scalar)

    def create_gather(self, src, indices, axis):
        lead = max(src.data.shape[0], indices.data.shape[0])
        data, at = (np.broadcast_to(h.data, (lead, *h.data.shape[1:])) for h in (src, indices))
        if at.size and (at.min() < 0 or at.max() >= data.shape[axis + 1]):
            raise Unsupported("tl.gather with an index outside its source")
        return Value(np.take_along_axis(data, at, axis=axis + 1), src.dtype.scalar)

    def create_histogram(self, data, bins, mask):
        values = data.data.astype(np.int64)
        seen = (values >= 0) & (values < bins)
        if mask is not None:
            values, seen = np.broadcast_arrays(values, seen & mask.data)
        lead = values.shape[0]
        places = np.where(seen, values + np.arange(lead)[:, None] * bins, lead * bins)
        counts = np.bincount(places.reshape(-1), minlength=lead * bins + 1)[:-1]
        return Value(counts.reshape(lead, bins).astype(np.int32), tl.int32)

    # --- memory ---

    def create_addptr(self, ptr, offset):
        size = max(1, ptr.get_element_ty().primitive_bitwidth // 8)
        shape = np.broadcast_shapes(ptr.data.shape, offset.data.shape)
        if offset.data.shape == shape and offset.data.strides[-1]:
            moved = offset.data.astype(np.uint64)
            moved *= np.uint64(size)
            moved += ptr.data
        else:
            moved = ptr.data + offset.data.astype(np.uint64) * np.uint64(size)
        return Value(moved, ptr.dtype)

    def create_load(self, ptr, cache_policy, is_volatile):
        mask = Value(np.ones((1,) * ptr.data.ndim, bool), tl.int1)
        return self.create_masked_load(ptr, mask, None, cache_policy, is_volatile)

    def create_store(self, ptr, val, cache_policy):
        return self.create_masked_store(ptr, val, Value(np.ones((1,) * ptr.data.ndim, bool), tl.int1), cache_policy)

    def create_masked_load(self, ptrs, mask, other, cache_policy, is_volatile):
        kind = ptrs.get_element_ty()
        dtype = memory_type(kind)
        fill = np.zeros(1, dtype) if other is None else stored(other.data, kind)
        shape = np.broadcast_shapes(ptrs.data.shape, mask.data.shape, fill.shape if other is not None else ())
        active = _spread(mask.data, shape)
        fill = _spread(fill.reshape(fill.shape[0], *[1] * (len(shape) - 1)) if other is None else fill, shape)
        raw = self.observer.load(Value(_spread(ptrs.data, shape), ptrs.dtype), active, fill, dtype)
        if is_volatile:
            self._ask("load", ptrs.data, raw)
        return Value(hold(raw, kind), kind)

    def create_masked_store(self, ptrs, value, mask, cache_policy):
        kind = ptrs.get_element_ty()
        shape = np.broadcast_shapes(ptrs.data.shape, mask.data.shape, value.data.shape)
        shape = (len(self.programs[0]), *shape[1:])
        raw = _spread(stored(value.data, kind), shape)
        self.observer.store(Value(_spread(ptrs.data, shape), ptrs.dtype), raw, _spread(mask.data, shape))
        self.polls.clear()

    def create_atomic_load(self, ptr, mask, sem, scope):
        return self.create_masked_load(ptr, mask, None, None, True)

    def create_atomic_store(self, ptr, val, mask, sem, scope):
        return self.create_masked_store(ptr, val, mask, None)

    def create_atomic_poll(self, ptr, expected, timeout_ns, sem, scope):
        mask = Value(np.ones((1,) * ptr.data.ndim, bool), tl.int1)
        matched = self.create_masked_load(ptr, mask, None, None, True).data == expected.data
        if not matched.all() and not hasattr(timeout_ns, "data"):
            raise Diverged(matched) if len(self.programs[0]) > 1 else Stuck(self._who())
        return Value(matched, tl.int1)

    def create_atomic_cas(self, ptr, cmp, val, sem, scope):
        kind = atomics.kind_of(ptr)
        shape = (len(self.programs[0]), *ptr.data.shape[1:])
        pointers, expected, new = (
            _spread(data, shape) for data in (ptr.data, stored(cmp.data, kind), stored(val.data, kind))
        )
        old = self.observer.atomic(
            Value(pointers, ptr.dtype), np.ones(shape, bool), new.dtype,
            atomics.Change("CAS", expected, lambda: atomics.compare_and_swap(pointers, expected, new)),
        )  # fmt: skip
        self._ask("cas", pointers, old)
        return Value(hold(old, kind), kind)

    def create_atomic_rmw(self, operation, ptr, val, mask, sem, scope):
        kind = atomics.kind_of(ptr)
        shape = (len(self.programs[0]), *np.broadcast_shapes(ptr.data.shape, val.data.shape, mask.data.shape)[1:])
        pointers, value, active = (_spread(data, shape) for data in (ptr.data, stored(val.data, kind), mask.data))
        change = atomics.Change(
            operation.name, value, lambda: atomics.read_modify_write(operation, pointers, value, active, kind)
        )
        old = self.observer.atomic(Value(pointers, ptr.dtype), active, value.dtype, change)
        self._ask(operation.name, pointers, old)
        return Value(hold(old, kind), kind)

    def _ask(self, what: str, pointers: np.ndarray, answer: np.ndarray) -> None:
        """Count questions whose answer doesn't change: in a loop, nothing would ever end it."""
        if pointers.size > 64 * len(pointers):
            return
        key, found = (what, pointers.tobytes()), answer.tobytes()
        if len(self.polls) > 64:  # who waits asks the same few places
            self.polls.clear()
        before, times = self.polls.get(key, (b"", 0))
        times = times + 1 if before == found else 0
        self.polls[key] = (found, times)
        if times > POLLS:
            if len(self.programs[0]) > 1 and self.observer.undo is not None:
                raise Diverged
            raise Stuck(self._who())

    def _who(self) -> str:
        place = tuple(int(axis[0]) for axis in self.programs)
        return f"program {place} waits for a value in memory that nothing writes; programs run one after another here"

    # --- tensor descriptors ---

    def create_make_tensor_descriptor(self, base, shape, strides, tensor_shape, is_signed, padding="zero"):
        return Descriptor(base, [s.data for s in shape], [s.data for s in strides], list(tensor_shape), padding)

    def create_descriptor_load(self, desc, indices, cache_policy):
        return self._described_load(desc, *desc.block_at(indices))

    def create_descriptor_gather(self, desc, x_offsets, y_offset, kind):
        return self._described_load(desc, *desc.rows_at(x_offsets, y_offset))

    def _described_load(self, desc, pointers, inside):
        fill = None
        if desc.padding == interpreter._ir.PADDING_OPTION.PAD_NAN:
            nan = np.full((1,) * pointers.data.ndim, np.nan, np.float32)
            fill = self.create_fp_to_fp(Value(nan, tl.float32), desc.kind, None) if is_fp8(desc.kind) else \
                Value(nan.astype(held_type(desc.kind)), desc.kind)  # fmt: skip
        block = self.create_masked_load(pointers, inside, fill, None, False)
        if desc.round_f32_to_tf32 and desc.kind == tl.float32:
            block.data = interpreter._round_f32_to_tf32(block.data)
        return block

    def create_descriptor_store(self, desc, value, indices):
        pointers, inside = desc.block_at(indices)
        self.create_masked_store(pointers, value, inside, None)

    def create_descriptor_scatter(self, desc, value, x_offsets, y_offset):
        pointers, inside = desc.rows_at(x_offsets, y_offset)
        self.create_masked_store(pointers, value, inside, None)

    def create_descriptor_reduce(self, kind, desc, value, indices):
        pointers, inside = desc.block_at(indices)
        name = kind.name
        if name == "ADD" and desc.kind.is_floating():
            name = "FADD"
        elif name in ("MIN", "MAX") and not desc.kind.is_int_signed():
            name = "U" + name
        self.create_atomic_rmw(getattr(interpreter._ir.ATOMIC_OP, name), pointers, value, inside, None, None)

    # --- conversions ---

    def cast_impl(self, src, dst_type):
        data, kind = src.data, dst_type.scalar
        if is_narrow(kind):
            if data.dtype != np.float32:  # integers convert in one step
                data = data.astype(np.float64)
            return Value(data if src.dtype.scalar == kind else round_to(data, kind), kind)
        dtype = held_type(kind)
        if dtype.kind in "iu" and data.dtype.kind == "f":
            return Value(formats.to_integer(data, dtype), kind)
        return Value(data.astype(dtype), kind)

    def create_fp_to_fp(self, src, dst_type, rounding_mode):
        source, kind, towards_zero = src.dtype.scalar, dst_type.scalar, rounding_mode == _HARDWARE.RTZ
        if is_fp8(source):
            src = Value(formats.from_fp8(src.data, source), tl.float32)
        if is_fp8(kind):
            return Value(formats.to_fp8(src.data, kind, towards_zero), kind)
        if towards_zero and is_narrow(kind):
            return Value(formats.truncate(src.data, kind), kind)
        return self.cast_impl(src, dst_type)

    def create_bitcast(self, src, dst_type):
        kind, source = dst_type.scalar, src.dtype.scalar
        raw = stored(src.data, source) if not source.is_ptr() else src.data
        if kind == tl.int1 and raw.dtype != np.bool_:
            return Value((raw & 1).astype(bool), kind)
        raw = raw.view(memory_type(kind))
        return Value(hold(raw, kind), kind)

    create_int_to_ptr = create_ptr_to_int = create_bitcast

    # --- arithmetic ---

    def binary_op(self, lhs, rhs, op):
        kind, left, right = lhs.dtype.scalar, lhs.data, rhs.data
        if left.dtype == np.bool_ and right.dtype == np.bool_:
            # int1 wraps around like any integer
            op = _WRAPPING.get(op, op)
        elif is_fp8(kind):
            raise Unsupported(f"arithmetic on {kind}: convert it to a wider type first")
        output = op(left, right)
        self.observer.elementwise(output.size // output.shape[0])
        if output.dtype == np.bool_:
            return Value(output, tl.int1)
        if is_narrow(kind):
            return Value(output if op in _EXACT else round_to(output, kind), kind)
        dtype = held_type(kind)
        return Value(output if output.dtype == dtype else output.astype(dtype), kind)

    def create_idiv(self, lhs, rhs):
        left, right = lhs.data, rhs.data
        quotient = left // right
        # Towards zero: NumPy's goes down.
        if left.dtype.kind == "i" and (left.min(initial=0) < 0 or right.min(initial=0) < 0):
            quotient += (quotient * right != left) & ((left < 0) != (right < 0))
        self.observer.elementwise(quotient.size // quotient.shape[0])
        return Value(quotient, lhs.dtype.scalar)

    def create_lshr(self, lhs, rhs):
        unsigned = f"u{lhs.data.dtype.itemsize}"
        if lhs.data.dtype == np.bool_:
            return self.binary_op(lhs, rhs, np.right_shift)
        output = lhs.data.view(unsigned) >> rhs.data.view(unsigned)
        return Value(output.view(lhs.data.dtype), lhs.dtype.scalar)

    def create_ashr(self, lhs, rhs):
        signed = f"i{lhs.data.dtype.itemsize}"
        output = lhs.data.view(signed) >> rhs.data.view(signed)
        return Value(output.view(lhs.data.dtype), lhs.dtype.scalar)

    def ternary_op(self, lhs, rhs, other, op):
        kind = other.dtype.scalar
        output = op(lhs.data, rhs.data, other.data)
        self.observer.elementwise(output.size // output.shape[0])
        return Value(output if output.dtype == other.data.dtype else output.astype(other.data.dtype), kind)

    def create_fma(self, x, y, z):
        kind = z.dtype.scalar
        if z.data.dtype == np.float32 and not is_narrow(kind):
            operands = [np.ascontiguousarray(a) for a in np.broadcast_arrays(x.data, y.data, z.data)]
            output = interpreter._interpreter.fma_fp32(*operands)
        elif z.data.dtype == np.float64:
            operands = [np.ascontiguousarray(a) for a in np.broadcast_arrays(x.data, y.data, z.data)]
            output = interpreter._interpreter.fma_fp64(*operands)
        else:
            output = round_to(x.data.astype(np.float64) * y.data + z.data, kind)
        self.observer.elementwise(output.size // output.shape[0])
        return Value(output, kind)

    def create_umulhi(self, lhs, rhs):
        width = lhs.data.dtype.itemsize
        left, right = (h.data.view(f"u{width}") for h in (lhs, rhs))
        if width < 8:
            output = (left.astype(np.uint64) * right >> np.uint64(8 * width)).astype(f"u{width}")
        else:
            low = np.uint64(0xFFFFFFFF)
            half = np.uint64(32)
            a, b, c, d = left >> half, left & low, right >> half, right & low
            middle = a * d + (b * d >> half)
            output = a * c + (middle >> half) + ((b * c + (middle & low)) >> half)
        return Value(output.view(lhs.data.dtype), lhs.dtype.scalar)

    def unary_op(self, arg, op):
        kind = arg.dtype.scalar
        if is_fp8(kind):
            raise Unsupported(f"arithmetic on {kind}: convert it to a wider type first")
        output = op(arg.data)
        self.observer.elementwise(output.size // output.shape[0])
        return Value(output if op in _EXACT else round_to(output, kind), kind)

    def create_fabs(self, arg):
        if is_fp8(arg.dtype.scalar):
            return Value(arg.data & np.uint8(0x7F), arg.dtype.scalar)
        return self.unary_op(arg, np.abs)

    def create_erf(self, arg):
        return self.unary_op(arg, libdevice.FUNCTIONS["erf"])

    def create_rsqrt(self, arg):
        return self.unary_op(arg, libdevice.FUNCTIONS["rsqrt"])

    def create_extern_elementwise(self, library, path, symbol, arguments, kind, is_pure):
        kind = kind.scalar
        output = libdevice.call(symbol, [argument.data for argument in arguments])
        self.observer.elementwise(output.size // output.shape[0])
        return Value(round_to(output, kind).astype(held_type(kind), copy=False), kind)

    def create_inline_asm(self, asm, *args):
        raise Unsupported(f"inline assembly can't be interpreted ({asm.strip()[:60]!r}): use Triton's own operations")

    # --- products ---

    def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
        seen = self.observer.dot(a, b, d.data.shape, input_precision)
        if seen is not None:
            return Value(seen, d.dtype.scalar)
        return Value(products.added(products.product(a, b, input_precision), d), d.dtype.scalar)

    def create_dot_scaled(
        self, lhs, lhs_scale, lhs_format, rhs, rhs_scale, rhs_format, fast_math, lhs_k_pack, rhs_k_pack, acc
    ):
        left = products.scaled(lhs, lhs_scale, lhs_format, lhs_k_pack, rhs_format, is_rhs=False)
        right = products.scaled(rhs, rhs_scale, rhs_format, rhs_k_pack, lhs_format, is_rhs=True)
        return self.create_dot(left, right, acc, interpreter._ir.INPUT_PRECISION.IEEE, 0)

    # --- debugging ---

    def create_print(self, prefix, hex, values, is_signed):  # noqa: A002
        for row, place in enumerate(zip(*self.programs, strict=True)):
            for value in values:
                if self.printed < PRINTS:
                    self.printed += 1
                    shown = value.data[row if len(value.data) > 1 else 0]
                    print(f"({', '.join(str(int(axis)) for axis in place)}){prefix or ''} {shown}")

    def create_assert(self, condition, message):
        if not condition.data.all():
            raise AssertionError(f"tl.device_assert: {message}")

    def create_assume(self, condition):
        if not condition.data.all():
            raise AssertionError("tl.assume of something that isn't so: a compiler may do anything")


def _spread(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return (
        data if data.shape == shape and data.flags.c_contiguous else np.ascontiguousarray(np.broadcast_to(data, shape))
    )
