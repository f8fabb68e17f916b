# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportPrivateUsage=false
"""What a warm process does for problems that others wrote: describes their inputs, draws them, runs the reference.

The code thinks that it has a GPU, draws from generators that are seeded here, and gives bytes.
This file runs inside the sandbox, without the rest of Pawl, as a program of `safety/sandbox/warm.py`.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ...inside import pretend
from .foreign import Foreign
from .precision import Double, Rounded, keep_bits, widen
from .structure import Unsupported, build, dtype_name, flatten, plain, single
from .traffic import Traffic

_FULL = 53
"""Significant bits of fp64."""


class _Idle:
    """What the pretence tells of compiled regions, graphs and autotuners, which don't matter here."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def enter(self) -> None: ...

    def leave(self) -> None: ...

    def tuned(self, kernel: str, count: int) -> int:
        return 0


def warm_up() -> None:
    """Use once, before the fork, what requests need."""
    torch.set_num_threads(1)
    torch.distributions.Distribution.set_default_validate_args(False)  # it reads values, which fakes have none of
    with FakeTensorMode(), FlopCounterMode(display=False):
        x = torch.randn(4, 4)
        torch.nn.functional.linear(x, x).sum()


def answer(request: dict[str, Any], blob: bytes, scratch: Path) -> tuple[dict[str, Any], bytes]:
    """Do what is asked: `describe`, `inputs` or `reference`."""
    pretend.install(_Idle())
    try:
        with torch.no_grad(), pretend.Pretence(lambda name: None):
            foreign = Foreign(request, scratch)
            if request["kind"] == "describe":
                return {"cases": [_described(foreign, case) for case in request["cases"]]}, b""
            if request["kind"] == "inputs":
                plan, tensors = flatten(foreign.draw(request["parameters"], request["seed"]))
                return {"plan": plan}, save({name: plain(tensor) for name, tensor in tensors.items()})
            return _reference(foreign, request, load(blob))
    except BaseException as error:
        return {"error": _words(error)}, b""


def _described(foreign: Foreign, case: dict[str, Any]) -> dict[str, Any]:
    """Shapes and figures of one set of parameters; with `most`, also whether the reference runs on real values.

    `most` bounds bytes and operations, so that what is large is not run.
    """
    parameters, most = case["parameters"], case.get("most")
    found: dict[str, Any] = {}
    fake_error = ""
    try:
        with FakeTensorMode(), _converting_plainly():
            found = _figures(foreign, parameters)
    except Exception as error:  # it reads values, or an operator has no fake: then for real, if at all
        fake_error = _words(error)
    if most is None and found:
        return found
    if most is not None and found and (found["bytes"] > most["bytes"] or found["flops"] > most["flops"]):
        return found | {"small": False}
    try:
        real = _figures(foreign, parameters, tolerances=True)
    except Exception as error:
        return {"error": _words(error), "fake_error": fake_error}
    if most is not None:
        real["small"] = real["bytes"] <= most["bytes"] and real["flops"] <= most["flops"]
    return real


@contextlib.contextmanager
def _converting_plainly() -> Generator[None]:
    """Let `module.to(...)` make new parameters: torch's own way of changing them in place refuses fakes."""

    def apply(self: Any, fn: Any, recurse: bool = True) -> Any:
        for module in self.modules() if recurse else [self]:
            for name, value in module._parameters.items():
                if value is not None:
                    module._parameters[name] = torch.nn.Parameter(fn(value), value.requires_grad)
            for name, value in module._buffers.items():
                if value is not None:
                    module._buffers[name] = fn(value)
        return self

    before = torch.nn.Module._apply
    torch.nn.Module._apply = apply
    try:
        yield
    finally:
        torch.nn.Module._apply = before


def _figures(foreign: Foreign, parameters: dict[str, Any], tolerances: bool = False) -> dict[str, Any]:
    data = foreign.draw(parameters, 0)
    plan, tensors = flatten(data)
    traffic, counter = Traffic(tensors), FlopCounterMode(display=False)
    kept = {name: tensor.clone() for name, tensor in tensors.items()} if tolerances else {}
    with counter, traffic:
        output = foreign.run(data)
    result = single(output)
    figures: dict[str, Any] = {
        "plan": plan,
        "specs": {name: {"shape": list(t.shape), "dtype": dtype_name(t)} for name, t in tensors.items()},
        "output": {"shape": list(result.shape), "dtype": dtype_name(result)},
        "flops": float(counter.get_total_flops()),
        "moved": float(sum(traffic.read.values()) + result.numel() * result.element_size()),
        "bytes": float(sum(t.numel() * t.element_size() for t in (*tensors.values(), result))),
        "read": sorted(traffic.read),
        "written": sorted(traffic.written),
    }
    if tolerances:
        figures["finite"] = bool(torch.isfinite(result).all()) if result.is_floating_point() else True
        allowed = foreign.allowed(build(plan, kept), result)
        figures["tolerances"] = [allowed] if allowed else []
    return figures


def _reference(
    foreign: Foreign, request: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], bytes]:
    specs, plan, bits = request["specs"], request["plan"], request["bits"]
    given = {name: t.to(getattr(torch, specs[name]["dtype"])) for name, t in tensors.items()}
    foreign.prepare(request["parameters"])
    if not request["native"]:
        try:
            return {"wide": True}, _save(_wide(foreign, plan, given, bits))
        except Exception as error:
            reason = _words(error)
    else:
        reason = "asked for"
    output = single(foreign.run(build(plan, {name: t.clone() for name, t in given.items()})))
    return {"wide": False, "reason": reason}, _save(output)


def _save(output: torch.Tensor) -> bytes:
    return save({"output": output.double().contiguous().clone()})


def _wide(foreign: Foreign, plan: Any, given: dict[str, torch.Tensor], bits: int) -> torch.Tensor:
    """Run in fp64; with fewer bits, round products, and the output, and the inputs too where nothing is multiplied."""

    def run(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        return single(foreign.run(build(plan, tensors)))

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Double():
            wide = {name: widen(tensor).clone() for name, tensor in given.items()}
            if bits >= _FULL:
                return run(wide)
            with Rounded(bits) as rounded:
                output = run({name: tensor.clone() for name, tensor in wide.items()})
            if not rounded.products:
                output = run({name: keep_bits(tensor, bits) for name, tensor in wide.items()})
            return keep_bits(output, bits) if output.dtype == torch.float64 else output
    finally:
        torch.set_default_dtype(before)


def _words(error: BaseException) -> str:
    if isinstance(error, Unsupported):
        return str(error)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name in _THEIRS]
    where = f" at {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}: {error}"[:600]


_THEIRS = ("reference.py", "task.py", "utils.py")
