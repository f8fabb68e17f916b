# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportMissingParameterType=false, reportUnknownParameterType=false
# pyright: reportAttributeAccessIssue=false
"""Does again what a submission did, on other values, in a process that runs none of its host code.

Every storage lies between guards and begins as NaN; kernels may touch nothing outside them. Operators are torch's,
but for those that do more than compute; kernels, those that `extract.py` let through. So an output that is right was
computed by the very steps that are counted.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

import torch
from safetensors.torch import save
from torch.utils._pytree import tree_flatten

from . import interpret
from .counting import product_kind
from .matrices import as_multiplied
from .operands import Rejected, decode_arguments

GUARD = 4096
"""Bytes on each side of a storage that must stay as they are."""
POISON = 0xFF
"""Of which four are a NaN in fp32, two in fp16 and bf16, and an int64 of -1."""

_FORBIDDEN = ("from_file", "set_", "resize", "_resize", "set_data", "data", "_local_scalar_dense", "record_stream",
              "_pin_memory", "pin_memory", "_cudnn", "_nested", "quantize", "_sparse", "sparse", "to_sparse", "_use",
              "_foobar", "_test", "rename", "_version", "requires_grad", "_fw", "_make_dual")  # fmt: skip
"""Operators that swap what lies under a tensor, or that have no place in a computation."""

ALLOCATE = ("aten.empty.", "aten.empty_like.", "aten.empty_strided.", "aten.new_empty.", "aten.new_empty_strided.")
"""Operators that only make room."""


class Arena:
    """The storages of a session, each with guards, made when first used."""

    def __init__(self, sizes: list[int]) -> None:
        self._sizes = sizes
        self._rooms: dict[int, torch.Tensor] = {}

    def storage(self, number: int) -> torch.Tensor:
        """The bytes of a storage."""
        if number not in self._rooms:
            room = torch.full((self._sizes[number] + 2 * GUARD + 256,), POISON, dtype=torch.uint8)
            self._rooms[number] = room
        room = self._rooms[number]
        start = GUARD + -(room.data_ptr() + GUARD) % 256
        return room[start : start + self._sizes[number]]

    def view(self, described: dict[str, Any]) -> torch.Tensor:
        """A tensor over a storage; it must lie within."""
        dtype = getattr(torch, described["dtype"], None)
        if not isinstance(dtype, torch.dtype) or described["t"] >= len(self._sizes):
            raise Rejected("bad-output", "a recorded tensor has no known type or no storage")
        sizes, strides, offset = described["sizes"], described["strides"], described["offset"]
        whole = self.storage(described["t"])
        last = sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) if math.prod(sizes) else -1
        if min([offset, *sizes, *strides], default=0) < 0 or (offset + last + 1) * dtype.itemsize > len(whole):
            raise Rejected("bad-output", f"a recorded tensor lies outside its storage of {len(whole)} bytes")
        base = whole.storage_offset()
        return torch.empty(0, dtype=dtype).set_(
            whole.untyped_storage(), base // dtype.itemsize + offset, sizes, strides
        )

    def regions(self) -> list[tuple[int, int]]:
        """Address and bytes of every storage so far."""
        return [(self.storage(number).data_ptr(), self._sizes[number]) for number in self._rooms]

    def copy(self) -> Arena:
        """The same contents elsewhere."""
        other = Arena(self._sizes)
        for number in self._rooms:
            other.storage(number).copy_(self.storage(number))
        return other

    def damaged(self) -> int | None:
        """The number of a storage whose guards were written, or none."""
        for number, room in self._rooms.items():
            start = GUARD + -(room.data_ptr() + GUARD) % 256
            guards = (room[:start], room[start + self._sizes[number] :])
            if any(bool((guard != POISON).any()) for guard in guards):
                return number
        return None


def replay(request: dict[str, Any], tensors: dict[str, torch.Tensor], kernels: dict[str, Any]) -> Any:
    """Run the steps of a session, once or several times over.

    Args:
        request: `sizes` of the storages; `constants`, numbers of those that hold values; `prologue` and `calls`, each
            call with `steps`, `flags`, `inputs` (name to tensor) and `output`; `rooms`, for each call the inputs that
            may be written; `runs`, each with `calls` (how many of them), `shuffle` (a seed for the order of programs,
            or none) and `without` (a kernel that isn't launched, or none).
        tensors: `constant/NUMBER` and `CALL/NAME`, the values.
        kernels: interpreted functions by name.

    Returns:
        `{"runs": [{"calls": [{} or {"error": [code, detail]}], "spins": whether a program waits for another,
        "products": {kernel or operator: the precisions that its products are in}}]}`, and the outputs as safetensors
        under `RUN/CALL`.
    """
    runs: list[dict[str, Any]] = request["runs"]
    found: dict[int, _Course] = {}
    for number, run in enumerate(runs):
        if number not in found:
            course = found[number] = _Course(request, tensors, Player(Arena(request["sizes"]), kernels, run["shuffle"]))
            found |= course.take(run["calls"], run["without"], _left_out(runs, run))
    outputs = {f"{number}/{call}": o for number, run in found.items() for call, o in enumerate(run.given_back())}
    return {"runs": [found[number].answer for number in range(len(runs))]}, save(outputs) if outputs else b""


def _left_out(runs: list[dict[str, Any]], run: dict[str, Any]) -> dict[str, int]:
    """The kernels that other runs leave out of the one call that this run takes, each with that run's number."""
    if run["calls"] != 1 or run["shuffle"] is not None or run["without"] is not None:
        return {}
    return {r["without"]: n for n, r in enumerate(runs) if r["calls"] == 1 and r["shuffle"] is None and r["without"]}


def contents_after(prelude: dict[str, Any], sizes: list[int], kernels: dict[str, Any]) -> dict[int, bytes]:
    """What some storages hold after some steps.

    Args:
        prelude: `constants`, the bytes of storages in hexadecimal; `steps`, each with the flags of its call;
            `storages`, the numbers of those that are asked for.
        sizes: bytes of each storage.
        kernels: interpreted functions by name.

    Raises:
        Rejected: a step can't be taken.
    """
    arena = Arena(sizes)
    player = Player(arena, kernels)
    for number, text in prelude["constants"].items():
        arena.storage(int(number)).copy_(torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8))
    for step, flags in prelude["steps"]:
        player.play([step], flags)
    return {number: arena.storage(number).numpy().tobytes() for number in prelude["storages"]}


class _Course:
    """The calls of one run."""

    def __init__(self, request: dict[str, Any], tensors: dict[str, torch.Tensor], player: Player) -> None:
        self._request, self._tensors, self._player = request, tensors, player
        self._arena = player.arena
        self._answers: list[dict[str, Any]] = []
        self._outputs: list[torch.Tensor] = []
        self.answer: dict[str, Any] = {}
        """What the run is answered with, once it is over."""

    def take(self, count: int, without: str | None, left_out: dict[str, int]) -> dict[int, _Course]:
        """Take the first calls without a kernel.

        Args:
            count: how many calls.
            without: the kernel that isn't launched, or none.
            left_out: kernels without which the first call is taken as well.

        Returns:
            By the numbers of `left_out`, those of the further runs that part from this one at a kernel's first launch:
            all before it is the same.
        """
        calls = self._request["calls"][:count]
        apart: dict[int, _Course] = {}
        player = self._player
        player.without = without
        try:
            for number in self._request["constants"]:
                self._arena.storage(number).copy_(self._tensors[f"constant/{number}"])
            player.play(self._request["prologue"])
            before = {step["kernel"] for step in self._request["prologue"] if "kernel" in step}
            for index, call in enumerate(calls):
                self._begin(index)
                steps, done = call["steps"], 0
                for place, name in _first_launches(steps, left_out, before):
                    player.play(steps[done:place], call["flags"])
                    done = place
                    other = apart[left_out[name]] = _Course(self._request, self._tensors, player.copy(name))
                    other.finish(steps[place:])
                player.play(steps[done:], call["flags"])
                self._end(index)
            self._compare(calls)
        except Rejected as rejected:
            self._give_up(rejected, len(calls))
        self._leave()
        return apart

    def finish(self, steps: list[dict[str, Any]]) -> None:
        """Take the rest of the first call."""
        calls = self._request["calls"][:1]
        try:
            self._player.play(steps, calls[0]["flags"])
            self._end(0)
            self._compare(calls)
        except Rejected as rejected:
            self._give_up(rejected, 1)
        self._leave()

    def _begin(self, index: int) -> None:
        for name, described in self._request["calls"][index]["inputs"].items():
            self._arena.view(described).copy_(self._tensors[f"{index}/{name}"])

    def _end(self, index: int) -> None:
        call, rooms = self._request["calls"][index], self._request["rooms"][index]
        self._outputs.append(self._arena.view(call["output"]).contiguous().clone())
        kept = {name: described for name, described in call["inputs"].items() if name not in rooms}
        changed = [n for n, kind in kept.items() if not _same(self._arena.view(kind), self._tensors[f"{index}/{n}"])]
        self._answers.append(_checked(self._arena, changed))

    def _compare(self, calls: list[dict[str, Any]]) -> None:
        for index, call in enumerate(calls):
            if not _same(self._arena.view(call["output"]), self._outputs[index]):
                detail = f"the output of call {index} was written again after the call had returned it"
                self._answers[index] = {"error": ["bad-output", detail]}

    def _give_up(self, rejected: Rejected, count: int) -> None:
        self._answers += [{"error": [rejected.code, str(rejected)]}] * (count - len(self._answers))

    def _leave(self) -> None:
        """Keep what is told, and let the storages go."""
        products = {name: sorted(kinds) for name, kinds in self._player.products.items()}
        self.answer = {"calls": self._answers, "spins": self._player.spins, "products": products}
        del self._arena, self._player

    def given_back(self) -> list[torch.Tensor]:
        """The outputs of the calls that were taken."""
        return self._outputs[: len(self._answers)]


def _first_launches(steps: list[dict[str, Any]], names: Container[str], before: set[str]) -> list[tuple[int, str]]:
    """Where kernels are launched first, of those that weren't launched before."""
    found: dict[str, int] = {}
    for place, step in enumerate(steps):
        name = step.get("kernel", "")
        if name in names and name not in before:
            found.setdefault(name, place)
    return [(place, name) for name, place in found.items()]


def _checked(arena: Arena, changed: list[str]) -> dict[str, Any]:
    if changed:
        return {"error": ["input-changed", f"it writes to its inputs {changed}"]}
    if arena.damaged() is not None:
        return {"error": ["out-of-bounds", "it writes outside a buffer"]}
    return {}


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    a, b = a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8)
    return torch.equal(a, b)


class _Watch(interpret.BoundsObserver):
    """Refuses what lies outside the storages, and notes in what precision products are."""

    def __init__(self, regions: list[tuple[int, int]], kinds: set[str]) -> None:
        super().__init__(regions)
        self._kinds = kinds

    def dot(self, a: Any, b: Any, shape: tuple[int, ...], precision: Any) -> Any:
        """See a product."""
        self._kinds.add(product_kind(a, precision))


class Player:
    """Takes steps, one after another."""

    def __init__(self, arena: Arena, kernels: dict[str, Any], shuffle: int | None = None) -> None:
        self.arena, self._kernels, self._shuffle = arena, kernels, shuffle
        self.without: str | None = None
        """A kernel that isn't launched."""
        self.spins = False
        self.products: dict[str, set[str]] = {}
        self._flags: dict[str, bool] = {}

    def copy(self, without: str) -> Player:
        """One that goes on from here by itself, without a kernel."""
        other = Player(self.arena.copy(), self._kernels, self._shuffle)
        other.without, other.spins = without, self.spins
        other.products = {name: set(kinds) for name, kinds in self.products.items()}
        return other

    def play(self, steps: list[dict[str, Any]], flags: dict[str, bool] | None = None) -> None:
        """Take steps; `flags` say whether products of torch are in TF32."""
        self._flags = flags or {}
        with torch.no_grad():
            for step in steps:
                if "op" in step:
                    self._operator(step)
                elif step["kernel"] != self.without:
                    self._launch(step)

    def _operator(self, step: dict[str, Any]) -> None:
        operator = _find(step["op"])
        if step["op"].startswith(ALLOCATE):
            return  # the storage is there, full of NaNs
        name = step["op"].split(".")[1]
        args, kwargs = self._value(step["args"]), self._value(step["kwargs"])
        args, kind = as_multiplied(name, args, self._flags)
        if kind is not None:
            self.products.setdefault(name, set()).add(kind)
        try:
            result = operator(*args, **kwargs)
        except Exception as error:
            raise Rejected("crash", f"{step['op']}: {type(error).__name__}: {error}"[:800]) from None
        outs = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, torch.Tensor)]
        if len(outs) != len(step["outs"]):
            raise Rejected("bad-output", f"{step['op']} gives {len(outs)} tensors, {len(step['outs'])} were recorded")
        for out, described in zip(outs, step["outs"], strict=True):
            if described is not None:
                view = self.arena.view(described)
                if view.shape != out.shape or view.dtype != out.dtype:
                    raise Rejected("bad-output", f"{step['op']} gives another shape or type than was recorded")
                view.copy_(out)

    def _launch(self, step: dict[str, Any]) -> None:
        kernel = self._kernels.get(step["kernel"])
        if kernel is None:
            raise Rejected("no-triton-kernel", f"{step['kernel']} is no plain @triton.jit function of the module")
        try:
            self._interpret(step, kernel, decode_arguments(step, self.arena.view))
        except interpret.OutOfBounds as error:
            raise Rejected("out-of-bounds", f"{step['kernel']}: {error}"[:800]) from None
        except (Rejected, MemoryError):
            raise
        except Exception as error:
            raise Rejected("crash", f"{step['kernel']}: {type(error).__name__}: {error}"[:800]) from None

    def _interpret(self, step: dict[str, Any], kernel: Any, arguments: dict[str, Any]) -> None:
        """Run the programs of a launch."""
        kinds = self.products.setdefault(step["kernel"], set())
        observer = _Watch(self.arena.regions(), kinds)
        done = interpret.run_launch(kernel, arguments, tuple(step["grid"]), observer, self._shuffle)
        self.spins = self.spins or done.spins

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(part) for part in value]
        if not isinstance(value, dict):
            return value
        if "t" in value:
            return self.arena.view(value)
        if len(value) == 1:
            kind, named = next(iter(value.items()))
            if kind in ("dtype", "memory_format", "layout") and isinstance(named, str):
                return getattr(torch, named)
            if kind == "float" and isinstance(named, str):
                return float(named)
            if kind == "device":
                return torch.device("cpu")
        return {key: self._value(part) for key, part in value.items()}


def _find(name: str) -> Any:
    parts = name.split(".")
    if len(parts) != 3 or parts[0] not in ("aten", "prims") or parts[1].startswith(_FORBIDDEN):
        raise Rejected("unsupported-operator", f"the torch operator {name} isn't one that can be done again")
    packet = getattr(getattr(torch.ops, parts[0]), parts[1], None)
    operator = getattr(packet, parts[2], None)
    if operator is None:
        raise Rejected("unsupported-operator", f"torch has no operator {name}")
    if any(r.alias_info is not None and not r.alias_info.is_write for r in operator._schema.returns):
        raise Rejected("unsupported-operator", f"{name} only makes a view, which is no step")
    return operator
