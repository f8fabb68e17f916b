# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""Atomic operations of many programs at once: each lane finds what the lanes before it have left.

Triton's own interpreter has them for 32- and 64-bit numbers; exchanges of floats, and everything on 16 bits, are here.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

from .formats import Unsupported, hold, round_to, stored

_memory = interpreter._interpreter
_RELAXED = _memory.MEM_SEMANTIC.RELAXED


@dataclass(frozen=True)
class Change:
    """An atomic operation of many lanes; a call carries it out and returns the old contents."""

    name: str
    """Triton's name of it; `CAS` is a compare-and-swap."""
    operand: np.ndarray
    """For each lane, as in memory; of a swap, what it expects."""
    perform: Callable[[], np.ndarray]

    def __call__(self) -> np.ndarray:
        """Carry it out."""
        return self.perform()


def read_modify_write(
    operation: Any, pointers: np.ndarray, value: np.ndarray, mask: np.ndarray, kind: Any
) -> np.ndarray:
    """Change memory at the active lanes, in order, and return the old contents.

    Args:
        operation: Triton's name of it.
        pointers: addresses.
        value: operands, as in memory.
        mask: which lanes are active; the others return 0.
        kind: Triton's type of the element.
    """
    name = operation.name
    native = value.dtype
    if name == "XCHG" and native.itemsize >= 4:
        value = value.view(f"u{native.itemsize}")
    if native.itemsize >= 4:
        code = getattr(_memory.RMW_OP, name)
        old = _memory.atomic_rmw(code, pointers, value, mask, _RELAXED).view(native)
        return np.where(mask, old, np.zeros((), native))
    if kind.is_floating():
        if name not in ("FADD", "XCHG"):
            raise Unsupported(f"an atomic {name} of {kind}")
        added: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda old, new: stored(  # noqa: E731
            round_to(hold(old, kind) + hold(new, kind), kind), kind
        )
        return _in_order(pointers, mask, value, added if name == "FADD" else _second)
    functions = {"ADD": np.add, "XCHG": _second, "AND": np.bitwise_and, "OR": np.bitwise_or, "XOR": np.bitwise_xor,
                 "MAX": np.maximum, "UMAX": np.maximum, "MIN": np.minimum, "UMIN": np.minimum}  # fmt: skip
    return _in_order(pointers, mask, value, functions[name])


def compare_and_swap(pointers: np.ndarray, expected: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Store `value` where memory holds `expected`, in order, and return the old contents; all as in memory."""
    native = value.dtype
    bits = f"u{native.itemsize}"
    if native.itemsize >= 4:
        old = _memory.atomic_cas(pointers, expected.view(bits), value.view(bits), _RELAXED)
        return old.view(native)
    pairs = np.stack([expected.view(bits), value.view(bits)], -1)
    swapped: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda old, pair: np.where(  # noqa: E731
        old == pair[..., 0], pair[..., 1], old
    )
    return _in_order(pointers, np.ones(pointers.shape, bool), pairs, swapped).view(native)


def _second(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return new


def _in_order(
    pointers: np.ndarray,
    mask: np.ndarray,
    value: np.ndarray,
    change: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Lanes of the same address take turns; the turns of different addresses go together."""
    dtype = value.dtype
    found = np.zeros(pointers.size, dtype)
    lanes = np.flatnonzero(mask)
    addresses = pointers.reshape(-1)[lanes]
    values = value.reshape(pointers.size, *value.shape[pointers.ndim :])
    order = np.argsort(addresses, kind="stable")
    ordered = addresses[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, bool)
    starts = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0)) if len(ordered) else first
    turns = np.arange(len(ordered)) - starts
    for turn in range(int(turns.max(initial=-1)) + 1):
        now = lanes[order[turns == turn]]
        at = pointers.reshape(-1)[now]
        active = np.ones(len(now), bool)
        old = _memory.load(at, active, np.zeros(len(now), dtype), dtype)
        found[now] = old
        _memory.store(at, np.ascontiguousarray(change(old, values[now]), dtype=dtype), active)
    return found.reshape(pointers.shape)


def kind_of(pointers: Any) -> Any:
    """The element type behind a block of pointers."""
    kind = pointers.get_element_ty()
    return tl.int8 if kind == tl.int1 else kind
