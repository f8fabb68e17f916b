# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportMissingParameterType=false, reportUnknownParameterType=false
# pyright: reportAttributeAccessIssue=false
"""Does a recording again at a size that is too large to be done whole: only the programs behind a block of the output.

Storages are address space; memory is theirs where something was written. The inputs are filled where the block
depends on them. Launch by launch, a program whose loads all lie where something was written runs, and what it stores
counts as written; one that loads anything else is left out, before it has computed much. If the block has been written
in the end, it was computed by the very programs that the launches have at this size.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import mmap
import warnings
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from . import interpret
from .operands import Rejected
from .replay import ALLOCATE, Arena, Player

LINE, FINE = 128, 2
"""Bytes whose having been written is noted together, in large storages and in small ones.

In a small one, such as the losses or the sums of rows, what several programs write would lie in one line.
"""
SMALL = 64 << 20
"""Bytes up to which a storage is small."""
BATCH = 256
LOOKED_AT = 33
"""Lanes of a load, evenly spaced, that are looked at."""
WHOLE = 256 << 20
"""Bytes up to which a torch operator is done whole."""
_ZEROS = ("zeros", "zeros_like", "new_zeros", "zero_", "zero")


class Unsampled(Rejected):
    """The block can't be had by running some of the programs."""

    def __init__(self, why: str) -> None:
        super().__init__("unsampled", why)


class _LeftOut(Exception):
    """A program reads what nothing wrote."""


class SparseArena(Arena):
    """Storages that take memory only where they are written."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(sizes)
        self.written: dict[int, np.ndarray] = {}

    def storage(self, number: int) -> torch.Tensor:
        """The bytes of a storage; zeros where nothing was written."""
        if number not in self._rooms:
            size = self._sizes[number]
            room = mmap.mmap(-1, max(size, 1))  # shared, so that address space isn't counted as memory
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._rooms[number] = torch.frombuffer(room, dtype=torch.uint8)[:size]
            self.written[number] = np.zeros(-(-size // _line(size)), bool)
        return self._rooms[number]

    def fill(self, described: dict[str, Any], block: list[list[int]], values: torch.Tensor) -> None:
        """Write a block of a tensor: the first and the last plus one along each axis."""
        part = self.view(described)[tuple(slice(low, high) for low, high in block)]
        part.copy_(values)
        self.note(described["t"], part)

    def note(self, number: int, part: torch.Tensor) -> None:
        """Count a view as written."""
        line = _line(self._sizes[number])
        for low, high in _runs(part):
            self.written[number][low // line : -(-high // line)] = True

    def is_written(self, described: dict[str, Any], block: list[list[int]]) -> bool:
        """Whether all of a block was."""
        view = self.view(described)[tuple(slice(low, high) for low, high in block)]
        lines, line = self.written[described["t"]], _line(self._sizes[described["t"]])
        return all(lines[low // line : -(-high // line)].all() for low, high in _runs(view))


def _line(size: int) -> int:
    return FINE if size <= SMALL else LINE


def _runs(view: torch.Tensor) -> list[tuple[int, int]]:
    """The bytes of a view in its storage, as contiguous runs."""
    size = view.element_size()
    if not view.numel():
        return []
    axes = sorted((int(stride), int(count)) for stride, count in zip(view.stride(), view.size(), strict=True))
    length = 1
    while axes and axes[0][0] <= length:  # broadcast or adjacent
        stride, count = axes.pop(0)
        length = max(length, stride * (count - 1) + length)
    starts = np.zeros(1, np.int64)
    for stride, count in axes:
        starts = (starts[:, None] + np.arange(count, dtype=np.int64) * stride).reshape(-1)
    first = int(view.storage_offset())
    return [((first + int(start)) * size, (first + int(start) + length) * size) for start in starts]


class _Follow(interpret.BoundsObserver):
    """Lets programs read only what was written, and notes what they write."""

    def __init__(self, arena: SparseArena, numbers: list[int]) -> None:
        regions = [(arena.storage(number).data_ptr(), arena.storage(number).numel()) for number in numbers]
        super().__init__(regions)
        order = sorted(range(len(numbers)), key=lambda each: regions[each][0])
        self._lines = [(arena.written[numbers[each]], _line(regions[each][1])) for each in order]
        self._bases = np.array([regions[each][0] for each in order], np.uint64)
        self._fresh: list[tuple[np.ndarray, np.ndarray]] = []

    def begin(self, ids: np.ndarray) -> None:
        """See which programs run next."""
        super().begin(ids)
        self._fresh = []

    def discard(self) -> None:
        """Take back what the programs have written since."""
        super().discard()
        for lines, places in self._fresh:
            lines[places] = False
        self._fresh = []

    def load(self, pointers: Any, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Read what was written; of programs that would read more, none goes on."""
        ready = self._ready(pointers.data, mask)
        if not ready.all():
            if ready.any():
                raise interpret.Diverged(ready)
            raise _LeftOut
        return super().load(pointers, mask, other, dtype)

    def store(self, pointers: Any, value: np.ndarray, mask: np.ndarray) -> None:
        """Write, and note it."""
        super().store(pointers, value, mask)
        self._note(pointers, mask)

    def atomic(self, pointers: Any, mask: np.ndarray, dtype: np.dtype, perform: Any) -> np.ndarray:
        """Change, and note it."""
        old = super().atomic(pointers, mask, dtype, perform)
        self._note(pointers, mask)
        return old

    def _ready(self, pointers: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """For each program, whether the lanes that are looked at are off or lie where something was written."""
        lead = len(pointers)
        flat, active = pointers.reshape(lead, -1), mask.reshape(lead, -1)
        picked = np.unique(np.linspace(0, flat.shape[1] - 1, LOOKED_AT).astype(np.int64))
        flat, active = flat[:, picked], active[:, picked]
        written = np.ones(flat.shape, bool)
        which = np.searchsorted(self._bases, flat, side="right") - 1
        for number, (lines, line) in enumerate(self._lines):
            mine = (which == number) & active
            if mine.any():
                places = ((flat[mine] - self._bases[number]) // np.uint64(line)).astype(np.int64)
                written[mine] = lines[np.minimum(places, len(lines) - 1)]
        return np.asarray((written | ~active).all(axis=1))

    def _note(self, pointers: Any, mask: np.ndarray) -> None:
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        active = pointers.data[mask]
        which = np.searchsorted(self._bases, active, side="right") - 1
        for number in np.unique(which):
            lines, line = self._lines[number]
            first = (active[which == number] - self._bases[number]).astype(np.int64)
            places = np.unique(np.concatenate([first + byte for byte in range(0, size, line)]) // line)
            fresh = places[~lines[places]]
            lines[fresh] = True
            self._fresh.append((lines, fresh))


class _Partial(Player):
    """Takes steps over a sparse arena, as far as what was written goes."""

    def __init__(self, arena: SparseArena, kernels: dict[str, Any]) -> None:
        super().__init__(arena, kernels)
        self._sparse = arena

    def _operator(self, step: dict[str, Any]) -> None:
        name = step["op"].split(".")[1]
        given = _tensors([step["args"], step["kwargs"]])
        fresh = [out for out in step["outs"] if out is not None]
        mine = [self._sparse.view(tensor) for tensor in (*given, *fresh)]
        amount = sum(view.numel() * view.element_size() for view in mine)
        clean = not any(self._sparse.written[tensor["t"]].any() for tensor in given)
        if name in _ZEROS and clean:  # as they are
            for tensor, view in zip((*given, *fresh), mine, strict=True):
                self._sparse.note(tensor["t"], view)
        elif not step["op"].startswith(ALLOCATE):
            if clean and given:
                return  # of what isn't there nothing comes
            if amount > WHOLE or not all(self._sparse.is_written(t, [[0, n] for n in t["sizes"]]) for t in given):
                raise Unsampled(f"{step['op']} takes {amount} bytes, of which only part is there")
            super()._operator(step)
            for tensor in [*fresh, *(given[:1] if name.endswith("_") else [])]:
                self._sparse.note(tensor["t"], self._sparse.view(tensor))

    def _interpret(self, step: dict[str, Any], kernel: Any, arguments: dict[str, Any]) -> None:
        if interpret.spins(kernel):
            raise Unsampled(f"programs of {step['kernel']} wait for one another")
        observer = _Follow(self._sparse, sorted({tensor["t"] for tensor in _tensors(step["arguments"])}))
        interpret.run_some(kernel, arguments, tuple(step["grid"]), observer, BATCH, _LeftOut)


def _tensors(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value] if "t" in value else [each for part in value.values() for each in _tensors(part)]
    return [each for part in value for each in _tensors(part)] if isinstance(value, list) else []


def compute_part(request: dict[str, Any], tensors: dict[str, torch.Tensor], kernels: dict[str, Any]) -> Any:
    """Compute a block of the last call's output.

    Args:
        request: `sizes`, `constants`, `prologue`, `calls` as for a replay; `fills`, for each call a list of (input,
            block); `block` of the output; a block is the first and the last plus one along each axis.
        tensors: `constant/NUMBER`, and `CALL/PLACE`, the values of each fill.
        kernels: interpreted functions by name.

    Returns:
        `{}` and the block as safetensors under `block`; `{"unsampled": reason}` where it can't be had so; or
        `{"error": [code, detail]}`.
    """
    arena = SparseArena(request["sizes"])
    player = _Partial(arena, kernels)
    try:
        for number in request["constants"]:
            arena.storage(number).copy_(tensors[f"constant/{number}"])
            arena.written[number][:] = True
        player.play(request["prologue"])
        for index, (call, fills) in enumerate(zip(request["calls"], request["fills"], strict=True)):
            for place, (name, block) in enumerate(fills):
                arena.fill(call["inputs"][name], block, tensors[f"{index}/{place}"])
            player.play(call["steps"], call["flags"])
        output = request["calls"][-1]["output"]
        if not arena.is_written(output, request["block"]):
            return {"unsampled": "the programs behind a block of the output can't be told from the rest"}, b""
        view = arena.view(output)[tuple(slice(low, high) for low, high in request["block"])]
        return {}, save({"block": view.contiguous().clone()})
    except Unsampled as unsampled:
        return {"unsampled": str(unsampled)}, b""
    except Rejected as rejected:
        return {"error": [rejected.code, str(rejected)]}, b""
