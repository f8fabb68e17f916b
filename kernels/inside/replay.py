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
    outputs: dict[str, torch.Tensor] = {}
    runs: list[dict[str, Any]] = []
    for index, run in enumerate(request["runs"]):
        found, answer = _run(request, tensors, kernels, run)
        outputs |= {f"{index}/{call}": output for call, output in enumerate(found)}
        runs.append(answer)
    return {"runs": runs}, save(outputs) if outputs else b""


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
    player = Player(arena, kernels, None, None)
    for number, text in prelude["constants"].items():
        arena.storage(int(number)).copy_(torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8))
    for step, flags in prelude["steps"]:
        player.play([step], flags)
    return {number: arena.storage(number).numpy().tobytes() for number in prelude["storages"]}


def _run(
    request: dict[str, Any], tensors: dict[str, torch.Tensor], kernels: dict[str, Any], run: dict[str, Any]
) -> tuple[list[torch.Tensor], dict[str, Any]]:
    arena = Arena(request["sizes"])
    player = Player(arena, kernels, run["shuffle"], run["without"])
    calls = request["calls"][: run["calls"]]
    answers: list[dict[str, Any]] = []
    outputs: list[torch.Tensor] = []
    try:
        for number in request["constants"]:
            arena.storage(number).copy_(tensors[f"constant/{number}"])
        player.play(request["prologue"])
        for index, call in enumerate(calls):
            given = {name: tensors[f"{index}/{name}"] for name in call["inputs"]}
            views = {name: arena.view(described) for name, described in call["inputs"].items()}
            for name, view in views.items():
                view.copy_(given[name])
            player.play(call["steps"], call["flags"])
            outputs.append(arena.view(call["output"]).contiguous().clone())
            kept = {name: view for name, view in views.items() if name not in request["rooms"][index]}
            changed = [name for name, view in kept.items() if not _same(view, given[name])]
            answers.append(_checked(arena, changed))
        for index, call in enumerate(calls):
            if not _same(arena.view(call["output"]), outputs[index]):
                detail = f"the output of call {index} was written again after the call had returned it"
                answers[index] = {"error": ["bad-output", detail]}
    except Rejected as rejected:
        answers += [{"error": [rejected.code, str(rejected)]}] * (len(calls) - len(answers))
    products = {name: sorted(kinds) for name, kinds in player.products.items()}
    return outputs[: len(answers)], {"calls": answers, "spins": player.spins, "products": products}


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

    def __init__(self, arena: Arena, kernels: dict[str, Any], shuffle: int | None, without: str | None) -> None:
        self._arena, self._kernels, self._shuffle, self._without = arena, kernels, shuffle, without
        self.spins = False
        self.products: dict[str, set[str]] = {}
        self._flags: dict[str, bool] = {}

    def play(self, steps: list[dict[str, Any]], flags: dict[str, bool] | None = None) -> None:
        """Take steps; `flags` say whether products of torch are in TF32."""
        self._flags = flags or {}
        with torch.no_grad():
            for step in steps:
                if "op" in step:
                    self._operator(step)
                elif step["kernel"] != self._without:
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
                view = self._arena.view(described)
                if view.shape != out.shape or view.dtype != out.dtype:
                    raise Rejected("bad-output", f"{step['op']} gives another shape or type than was recorded")
                view.copy_(out)

    def _launch(self, step: dict[str, Any]) -> None:
        kernel = self._kernels.get(step["kernel"])
        if kernel is None:
            raise Rejected("no-triton-kernel", f"{step['kernel']} is no plain @triton.jit function of the module")
        try:
            self._interpret(step, kernel, decode_arguments(step, self._arena.view))
        except interpret.OutOfBounds as error:
            raise Rejected("out-of-bounds", f"{step['kernel']}: {error}"[:800]) from None
        except (Rejected, MemoryError):
            raise
        except Exception as error:
            raise Rejected("crash", f"{step['kernel']}: {type(error).__name__}: {error}"[:800]) from None

    def _interpret(self, step: dict[str, Any], kernel: Any, arguments: dict[str, Any]) -> None:
        """Run the programs of a launch."""
        kinds = self.products.setdefault(step["kernel"], set())
        observer = _Watch(self._arena.regions(), kinds)
        done = interpret.run_launch(kernel, arguments, tuple(step["grid"]), observer, self._shuffle)
        self.spins = self.spins or done.spins

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(part) for part in value]
        if not isinstance(value, dict):
            return value
        if "t" in value:
            return self._arena.view(value)
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
