# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
# pyright: reportIncompatibleMethodOverride=false
# ruff: noqa: D102
"""Triton's interpreter, many programs at a time, with TF32 as a GPU rounds it, and with an eye on every access.

Triton interprets one program after another, some 30 microseconds an operation. Here every value carries a leading
axis of programs, so that one NumPy operation serves them all. A kernel whose control flow differs between programs
raises `Diverged`; its launch then runs again, one program at a time.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder, TensorHandle, interpreter_builder

BATCH = 128
"""Programs interpreted at once; more only cost cache misses."""


class Diverged(Exception):
    """The programs of one batch would go different ways."""


def round_to_tf32(values: np.ndarray) -> np.ndarray:
    """Round fp32 to the 10-bit mantissa of TF32, to nearest even, as the tensor cores' conversion does."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)


def _operands(a: Any, b: Any, precision: Any) -> tuple[np.ndarray, np.ndarray]:
    if precision == interpreter._ir.INPUT_PRECISION.TF32 and a.data.dtype == np.float32 == b.data.dtype:
        return round_to_tf32(a.data), round_to_tf32(b.data)
    return a.data, b.data


class Observer:
    """Is told what the programs of a batch do; the base class lets loads and stores through."""

    def load(self, pointers: Any, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Read memory at [programs, ...] addresses."""
        return interpreter._interpreter.load(pointers.data, mask, other, dtype)

    def store(self, pointers: Any, value: np.ndarray, mask: np.ndarray) -> None:
        """Write memory."""
        interpreter._interpreter.store(pointers.data, value, mask)

    def dot(self, a: Any, b: Any, shape: tuple[int, ...], precision: Any) -> np.ndarray | None:
        """See a product; anything but none is taken for its result."""

    def elementwise(self, count: int) -> None:
        """See an operation on `count` elements a program."""


class BatchedBuilder(InterpreterBuilder):
    """The interpreter's operations over values of shape [programs or 1, *block]."""

    programs: tuple[np.ndarray, np.ndarray, np.ndarray]
    observer: Observer

    def create_get_program_id(self, axis):
        return TensorHandle(self.programs[axis], tl.int32)

    def create_make_range(self, ret_ty, start, stop):
        return TensorHandle(np.arange(start, stop, dtype=np.int32)[None], tl.int32)

    def create_splat(self, ret_ty, arg):
        shape, rank = ret_ty.shape, len(ret_ty.shape)
        data = arg.data.reshape(arg.data.shape[0], *[1] * rank)
        return TensorHandle(np.broadcast_to(data, (data.shape[0], *shape)), arg.dtype.scalar)

    def create_unsplat(self, arg):
        return TensorHandle(arg.data.reshape(arg.data.shape[0], -1)[:, 0], arg.dtype.scalar)

    def create_expand_dims(self, arg, axis):
        return TensorHandle(np.expand_dims(arg.data, axis + 1), arg.dtype.scalar)

    def create_broadcast(self, arg, shape):
        return TensorHandle(np.broadcast_to(arg.data, (arg.data.shape[0], *shape)), arg.dtype.scalar)

    def create_reshape(self, arg, shape, allow_reorder):
        return TensorHandle(arg.data.reshape(arg.data.shape[0], *shape), arg.dtype.scalar)

    def create_trans(self, arg, perm):
        return TensorHandle(np.transpose(arg.data, (0, *(p + 1 for p in perm))), arg.dtype.scalar)

    def create_cat(self, lhs, rhs):
        lead = max(lhs.data.shape[0], rhs.data.shape[0])
        parts = [np.broadcast_to(h.data, (lead, *h.data.shape[1:])) for h in (lhs, rhs)]
        return TensorHandle(np.concatenate(parts, axis=1), lhs.dtype.scalar)

    def create_join(self, lhs, rhs):
        return TensorHandle(np.stack(np.broadcast_arrays(lhs.data, rhs.data), axis=-1), lhs.dtype.scalar)

    def create_masked_load(self, ptrs, mask, other, cache_policy, is_volatile):
        kind = ptrs.get_element_ty()
        dtype = np.dtype(interpreter._get_np_dtype(kind))
        fill = np.zeros(1, dtype) if other is None else other.data
        shape = np.broadcast_shapes(ptrs.data.shape, mask.data.shape)
        arrays = [
            np.ascontiguousarray(np.broadcast_to(a, shape)) for a in (mask.data, fill.reshape(_lead(fill, shape)))
        ]
        pointers = TensorHandle(np.ascontiguousarray(np.broadcast_to(ptrs.data, shape)), ptrs.dtype)
        return TensorHandle(self.observer.load(pointers, arrays[0], arrays[1], dtype), kind)

    def create_masked_store(self, ptrs, value, mask, cache_policy):
        shape = np.broadcast_shapes(ptrs.data.shape, mask.data.shape, value.data.shape)
        lead = len(self.programs[0])
        shape = (lead, *shape[1:])
        arrays = [np.ascontiguousarray(np.broadcast_to(a, shape)) for a in (value.data, mask.data)]
        pointers = TensorHandle(np.ascontiguousarray(np.broadcast_to(ptrs.data, shape)), ptrs.dtype)
        self.observer.store(pointers, arrays[0], arrays[1])

    def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
        if a.dtype.primitive_bitwidth == 8 or b.dtype.primitive_bitwidth == 8:
            raise Diverged
        seen = self.observer.dot(a, b, d.data.shape, input_precision)
        if seen is not None:
            return TensorHandle(seen, d.dtype.scalar)
        left, right = _operands(a, b, input_precision)
        return TensorHandle(np.matmul(left, right, dtype=d.data.dtype) + d.data, d.dtype.scalar)

    def binary_op(self, lhs, rhs, op):
        result = super().binary_op(lhs, rhs, op)
        self.observer.elementwise(result.data[0].size)
        return result

    def unary_op(self, arg, op):
        self.observer.elementwise(arg.data[0].size)
        return super().unary_op(arg, op)

    def create_atomic_cas(self, *args):
        raise Diverged

    def create_atomic_rmw(self, operation, ptr, val, mask, sem, scope):
        shape = (len(self.programs[0]), *ptr.data.shape[1:])
        parts = [TensorHandle(np.ascontiguousarray(np.broadcast_to(h.data, shape)), h.dtype) for h in (ptr, val, mask)]
        return super().create_atomic_rmw(operation, parts[0], parts[1], parts[2], sem, scope)

    def _alone(self, *args, **kwargs):
        raise Diverged

    create_histogram = create_gather = create_dot_scaled = create_make_tensor_descriptor = _alone
    create_print = create_assert = create_assume = create_atomic_load = create_atomic_poll = _alone


def _lead(fill: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...]:
    return fill.shape if fill.ndim == len(shape) else (fill.shape[0], *[1] * (len(shape) - 1))


def _reduce(block, axis, combine_fn, keep_dims=False, **kwargs):
    """`tl.reduce` over one axis of a block, or over all of it."""
    operations = {
        "_sum_combine": np.sum,
        "_elementwise_max": np.nanmax,
        "_elementwise_min": np.nanmin,
    }
    operation = operations.get(getattr(combine_fn, "__name__", ""))
    if operation is None or isinstance(block, tuple):
        raise Diverged
    data = block.handle.data
    axes = tuple(range(1, data.ndim)) if axis is None else (axis % (data.ndim - 1) + 1,)
    interpreter_builder.observer.elementwise(data[0].size)
    return _tensor(operation(data, axis=axes, keepdims=keep_dims).astype(data.dtype), block.dtype)


def _scan(block, axis, combine_fn, reverse=False, **kwargs):
    if getattr(combine_fn, "__name__", "") != "_sum_combine" or reverse or isinstance(block, tuple):
        raise Diverged
    data = block.handle.data
    return _tensor(np.cumsum(data, axis=axis % (data.ndim - 1) + 1).astype(data.dtype), block.dtype)


def _tensor(data: np.ndarray, dtype: Any) -> Any:
    shape = list(data.shape[1:])
    return tl.core.tensor(TensorHandle(data, dtype.scalar), tl.block_type(dtype, shape) if shape else dtype)


def _uniform(tensor: Any) -> Any:
    data = tensor.handle.data
    if data.size > 1 and (data.reshape(-1)[0] != data).any():
        raise Diverged
    return data.reshape(-1)[0]


@contextmanager
def batched(fn: Any, observer: Observer) -> Generator[None]:
    """Make the language mean the batched operations while the block lasts."""
    # Kernels see `tl`; the language's own device functions (tl.zeros, tl.sum) see `tl.core`.
    scopes = [interpreter._patch_lang(fn), interpreter._patch_lang(tl.standard.zeros.fn)]
    scope = scopes[-1]
    try:
        scope.set_attr(tl.core.tensor, "__bool__", lambda self: bool(_uniform(self)))
        scope.set_attr(tl.core.tensor, "__index__", lambda self: int(_uniform(self)))
        for module in (tl, tl.core):
            scope.set_attr(module, "reduce", _reduce)
            scope.set_attr(module, "associative_scan", _scan)
        interpreter_builder.__class__ = BatchedBuilder
        interpreter_builder.observer = observer
        yield
    finally:
        interpreter_builder.__class__ = InterpreterBuilder
        for scope in reversed(scopes):
            scope.restore()


def run_batch(fn: Any, arguments: dict[str, Any], grid: tuple[int, int, int], ids: np.ndarray) -> None:
    """Run the programs with these linear ids (axis 0 fastest) together, inside `batched`.

    Raises:
        Diverged: they can't run together; some may have stored already.
    """
    axes = ids % grid[0], ids // grid[0] % grid[1], ids // (grid[0] * grid[1])
    interpreter_builder.programs = tuple(axis.astype(np.int32) for axis in axes)
    interpreter_builder.set_grid_dim(*grid)
    fn(**arguments)


def bind(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a launch into arguments by name and options such as `num_warps`."""
    known = {name: value for name, value in kwargs.items() if name in function.arg_names}
    options = {name: value for name, value in kwargs.items() if name not in function.arg_names}
    bound = inspect.signature(function.fn).bind(*args, **known)
    bound.apply_defaults()
    return bound.arguments, options


def constexprs(function: Any) -> set[str]:
    """Names of the parameters that are compile-time constants."""
    return {name for name, kind in inspect.get_annotations(function.fn).items() if "constexpr" in str(kind)}


def full_grid(grid: Any, arguments: dict[str, Any]) -> tuple[int, int, int]:
    """A grid, which may be a function of the arguments, as three numbers."""
    given: Any = grid(arguments) if callable(grid) else grid
    sizes = [int(size) for size in given] + [1, 1]
    return sizes[0], sizes[1], sizes[2]


def _run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
    if warmup:
        return
    arguments, _ = bind(self, args, kwargs)
    sizes = full_grid(grid, arguments)
    fixed = constexprs(self)
    storages = {
        a.untyped_storage().data_ptr(): a.untyped_storage() for a in arguments.values() if hasattr(a, "untyped_storage")
    }
    before = {at: storage.clone() for at, storage in storages.items()}
    converted = {n: a if n in fixed else interpreter._implicit_cvt(a) for n, a in arguments.items()}
    ids = np.arange(sizes[0] * sizes[1] * sizes[2])
    try:
        fn = self.rewrite()
        with batched(fn, Observer()):
            for start in range(0, len(ids), BATCH):
                run_batch(fn, converted, sizes, ids[start : start + BATCH])
    except Diverged:
        for at, storage in storages.items():
            storage.copy_(before[at])
        _one_by_one(self, *args, grid=grid, warmup=warmup, **kwargs)


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    if type(interpreter_builder) is InterpreterBuilder:
        return _plain_call(self, *args, **kwargs)
    # The launch has patched the language; doing it again for every call of a device function is most of the time.
    return self.rewrite()(*args, **kwargs)


def _dot_alone(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
    left, right = _operands(a, b, input_precision)
    return _plain_dot(
        self, TensorHandle(left, a.dtype), TensorHandle(right, b.dtype), d, input_precision, max_num_imprecise_acc
    )


_one_by_one = InterpretedFunction.run
_plain_call = InterpretedFunction.__call__
_plain_dot = InterpreterBuilder.create_dot


def install() -> None:
    """Make Triton's interpreter this one, for every kernel that this process launches."""
    InterpretedFunction.run = _run
    InterpretedFunction.__call__ = _call
    InterpreterBuilder.create_dot = _dot_alone
