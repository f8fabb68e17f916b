# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""Triton's interpreter, many programs at a time, with numbers as a GPU rounds them and an eye on every access.

    run_launch(kernel, {"x_ptr": x, "n": 100, "BLOCK": 64}, (2, 1, 1), BoundsObserver([(x.data_ptr(), x.nbytes)]))

Triton interprets one program after another, some 30 microseconds an operation. Here a batch of programs runs in
lockstep (`batch.py`), so that unguarded reads and writes of the same place lose updates as on a GPU. Where the
programs of a batch go different ways, what they wrote is undone and each part runs by itself.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton.language as tl
from triton._utils import _tuple_create
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder, interpreter_builder
from triton.tools.tensor_descriptor import TensorDescriptor

from .batch import OPTIONS, BatchedBuilder, Diverged, Stuck
from .formats import Unsupported, Value
from .memory import Memory
from .observe import BoundsObserver, Observer, OutOfBounds
from .syntax import Transformer, spins, writes_before_deciding
from .vocabulary import patched

__all__ = [
    "BATCH", "BoundsObserver", "Diverged", "Launched", "Observer", "OutOfBounds", "Stuck", "Unsupported", "batched",
    "bind", "constexprs", "full_grid", "install", "run_batch", "run_launch", "run_some", "spins",
]  # fmt: skip

BATCH = 128
"""Programs interpreted at once; more only cost cache misses."""
DEPTH = 6
"""How often a batch is divided by the ways its programs go; then each runs by itself."""


@dataclass(frozen=True)
class Launched:
    """How a launch went."""

    programs: int
    batches: int
    """Runs that counted, of batches and parts of batches."""
    spins: bool
    """Whether its programs wait for one another, so that they ran one by one in ascending order."""


@contextmanager
def batched(fn: Any, observer: Observer) -> Generator[None]:
    """Make the language mean the batched operations while the block lasts."""
    options = interpreter_builder.options
    with patched(fn), np.errstate(all="ignore"):
        try:
            interpreter_builder.__class__ = BatchedBuilder
            interpreter_builder.observer = observer
            interpreter_builder.options = OPTIONS
            interpreter_builder.polls = {}
            interpreter_builder.printed = 0
            yield
        finally:
            interpreter_builder.__class__ = InterpreterBuilder
            interpreter_builder.options = options


def run_batch(fn: Any, arguments: dict[str, Any], grid: tuple[int, int, int], ids: np.ndarray) -> None:
    """Run the programs with these linear ids (axis 0 fastest) together, inside `batched`.

    Raises:
        Diverged: they can't run together; some may have stored already.
    """
    axes = ids % grid[0], ids // grid[0] % grid[1], ids // (grid[0] * grid[1])
    interpreter_builder.programs = tuple(axis.astype(np.int32) for axis in axes)
    interpreter_builder.polls.clear()
    interpreter_builder.set_grid_dim(*grid)
    interpreter_builder.observer.begin(ids)
    fn(**arguments)


def run_launch(
    kernel: Any, arguments: Mapping[str, Any], grid: tuple[int, int, int], observer: Observer, order: int | None = None
) -> Launched:
    """Run all programs of a launch on memory.

    Args:
        kernel: an interpreted kernel.
        arguments: by parameter name: tensors of the CPU, host tensor descriptors, numbers, constexprs.
        grid: programs along each axis.
        observer: sees every load, store, product and atomic.
        order: a seed, by which the programs are shuffled; none for ascending ids, axis 0 fastest. Programs that
            wait for one another aren't shuffled.

    Raises:
        OutOfBounds: from a `BoundsObserver`.
        Stuck: a program waits for a value that never comes.
        Unsupported: an operation that can't be interpreted.
    """
    fn = kernel.rewrite()
    waits = spins(kernel)
    undoable = writes_before_deciding(kernel)
    given = inspect.signature(kernel.fn).bind(**arguments)
    given.apply_defaults()
    ids = np.arange(grid[0] * grid[1] * grid[2])
    if order is not None and not waits:
        ids = np.random.Generator(np.random.Philox(order)).permutation(ids)
    size = 1 if waits else BATCH
    batches = 0
    known = observer.memory
    if not known.starts:
        observer.memory = Memory(list(_storages(given.arguments.values())))
    with batched(fn, observer):
        converted = _converted(kernel, given.arguments)
        for start in range(0, len(ids), size):
            batches += _run_parts(fn, converted, grid, ids[start : start + size], observer, undoable)
    observer.memory = known
    return Launched(len(ids), batches, waits)


def run_some(
    kernel: Any,
    arguments: Mapping[str, Any],
    grid: tuple[int, int, int],
    observer: Observer,
    size: int,
    left_out: type[Exception],
) -> None:
    """Run the programs of a launch that an observer lets through, in batches of `size`.

    The observer parts a batch by raising `Diverged`, and ends a part by raising `left_out`: then what it wrote is
    undone, and the others go on. Otherwise as `run_launch`.
    """
    fn = kernel.rewrite()
    given = inspect.signature(kernel.fn).bind(**arguments)
    given.apply_defaults()
    total = grid[0] * grid[1] * grid[2]
    known = observer.memory
    if not known.starts:
        observer.memory = Memory(list(_storages(given.arguments.values())))
    with batched(fn, observer):
        converted = _converted(kernel, given.arguments)
        for start in range(0, total, size):
            ids = np.arange(start, min(start + size, total))
            _run_parts(fn, converted, grid, ids, observer, True, left_out=left_out)
    observer.memory = known


def _run_parts(
    fn: Any,
    arguments: Any,
    grid: Any,
    ids: np.ndarray,
    observer: Observer,
    undoable: bool,
    depth: int = 0,
    left_out: type[Exception] | tuple[()] = (),
) -> int:
    """Run a batch, by parts if its programs go different ways; return how many parts."""
    observer.undo = [] if undoable and (len(ids) > 1 or left_out) else None
    try:
        run_batch(fn, arguments, grid, ids)
    except left_out:
        observer.roll_back()
        return 0
    except Diverged as diverged:
        if len(ids) == 1:
            raise Unsupported("a condition or a bound that is a block, not a number") from None
        observer.roll_back()
        parts = _parts(ids, diverged.choices, depth)
    else:
        return 1
    finally:
        observer.undo = None
    return sum(_run_parts(fn, arguments, grid, part, observer, undoable, depth + 1, left_out) for part in parts)


def _parts(ids: np.ndarray, choices: np.ndarray | None, depth: int) -> Iterator[np.ndarray]:
    if choices is None or choices.shape != ids.shape or depth >= DEPTH:
        yield from ids[:, None]
        return
    _, first, which = np.unique(choices, return_index=True, return_inverse=True)
    for part in np.argsort(first):
        yield ids[which == part]


def _storages(values: Any) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for value in values:
        if isinstance(value, (tuple, list)):
            found |= _storages(value)
        tensor = value.base if isinstance(value, TensorDescriptor) else value
        if hasattr(tensor, "untyped_storage"):
            storage = tensor.untyped_storage()
            found.add((storage.data_ptr(), storage.nbytes()))
    return found


def _converted(kernel: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    fixed = constexprs(kernel)
    return {name: value if name in fixed else _argument(value) for name, value in arguments.items()}


def _argument(value: Any) -> Any:
    if isinstance(value, float):
        # A scalar argument is fp32 and makes what it meets fp32, unlike a literal.
        return tl.tensor(Value(np.array([value], np.float32), tl.float32), tl.float32)
    if isinstance(value, tuple):
        return _tuple_create(value, map(_argument, value))
    if isinstance(value, TensorDescriptor) and list(value.strides)[-1] != 1:
        raise Unsupported("a tensor descriptor's last axis isn't contiguous")
    return interpreter._implicit_cvt(value)


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
    for hook in self.pre_run_hooks:
        hook(**arguments)
    run_launch(self, arguments, full_grid(grid, arguments), Observer())


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    if type(interpreter_builder) is InterpreterBuilder:
        return _plain_call(self, *args, **kwargs)
    # The launch has patched the language; doing it again for every call of a device function is most of the time.
    return self.rewrite()(*args, **kwargs)


_plain_call = InterpretedFunction.__call__


def install() -> None:
    """Make Triton's interpreter this one, for every kernel that this process launches."""
    interpreter.FunctionRewriter.ast_transformer = Transformer()
    InterpretedFunction.run = _run
    InterpretedFunction.__call__ = _call
