# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""Runs a submission's own code: on real inputs for its output, and on tensors without memory for its launches.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from triton.runtime.interpreter import InterpretedFunction

from . import interpret


class Rejected(Exception):
    """Why a submission is refused: a code and what was seen."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def run(request: dict[str, Any], blob: bytes, scratch: Path) -> tuple[dict[str, Any], bytes]:
    """Answer a request for outputs (`cases`) and launches (`traces`).

    Returns:
        For each case and each trace either its answer or `{"error": [code, detail]}`, and for each case also what it
        did; outputs as safetensors.
    """
    try:
        function = _import(request["source"], scratch)
    except Rejected as rejected:
        return {"error": [rejected.code, str(rejected)]}, b""
    tensors = load(blob) if blob else {}
    outputs: dict[str, torch.Tensor] = {}
    cases: list[dict[str, Any]] = []
    courses: list[dict[str, Any]] = []
    for index, case in enumerate(request["cases"]):
        inputs = {name.split("/", 1)[1]: t for name, t in tensors.items() if name.startswith(f"{index}/")}
        courses.append({"steps": [], "operators": []})
        try:
            outputs[str(index)] = _output(_observed(function, build(case, inputs), courses[-1]))
            cases.append({})
        except Rejected as rejected:
            cases.append({"error": [rejected.code, str(rejected)]})
    traces = [_answer_trace(function, trace) for trace in request["traces"]]
    return {"cases": cases, "courses": courses, "traces": traces}, save(outputs) if outputs else b""


def warm_up() -> None:
    """Use tensors without memory once: torch loads what they need at their first operator."""
    with _Operators():
        x = torch.empty(4, 4, device="meta")
        torch.cat([x, x.to(torch.float16).contiguous().float()]).sum()
        torch.zeros_like(x @ x + x).copy_(x)


def build(plan: Any, tensors: dict[str, Any]) -> Any:
    """Build `data` from a problem's plan and named tensors."""
    if isinstance(plan, dict):
        if set(plan) == {"tensor"}:
            return tensors[plan["tensor"]]
        if set(plan) == {"tuple"}:
            return tuple(build(part, tensors) for part in plan["tuple"])
        return {key: build(value, tensors) for key, value in plan.items()}
    return [build(part, tensors) for part in plan] if isinstance(plan, list) else plan


def _import(source: str, scratch: Path) -> Any:
    path = scratch / "submission.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("submission", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise Rejected("syntax-error", f"line {error.lineno}: {error.msg}") from None
    except BaseException as error:
        raise Rejected("crash", _tail(error)) from None
    function = getattr(module, "custom_kernel", None)
    if not callable(function):
        raise Rejected("no-custom-kernel", "the module defines no function custom_kernel(data)")
    return function


def _call(function: Any, data: Any) -> Any:
    try:
        return function(data)
    except MemoryError:
        raise Rejected("memory", "out of memory") from None
    except BaseException as error:
        raise Rejected("crash", _tail(error)) from None


def _observed(function: Any, data: Any, course: dict[str, Any]) -> Any:
    """Call on real tensors, and note each kind of launch and operator once."""
    run_kernel = InterpretedFunction.run

    def noted(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        if not warmup:
            step = _step(self, args, kwargs)
            if step not in course["steps"]:
                course["steps"].append(step)
        with _disable_current_modes():  # the interpreter's own operators
            run_kernel(self, *args, grid=grid, warmup=warmup, **kwargs)

    operators = _Operators()
    InterpretedFunction.run = noted
    try:
        with operators:
            return _call(function, data)
    finally:
        InterpretedFunction.run = run_kernel
        course["operators"] = list(dict.fromkeys(operator["name"] for operator in operators.seen))


def _output(value: Any) -> torch.Tensor:
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if type(value) is not torch.Tensor:
        raise Rejected("bad-output", f"custom_kernel returned a {type(value).__name__}, expected one torch.Tensor")
    return value.detach().contiguous().clone()


def _tail(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith("submission.py")]
    where = f" at line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}: {error}"[:800]


class _Operators(TorchDispatchMode):
    """Notes every torch operator that moves data."""

    free = ("empty", "view", "reshape", "expand", "slice", "select", "transpose", "permute", "detach", "alias",
            "unsqueeze", "squeeze", "as_strided", "split", "t.", "new_empty", "stride", "size")  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").removeprefix("_")
        if not name.startswith(self.free) or "copy" in name:
            tensors = [t for t in _flatten((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            moved = sum(t.numel() * t.element_size() for t in tensors)
            flops = 0.0
            if name.startswith(("mm", "bmm", "addmm", "baddbmm", "matmul", "linear")) and isinstance(out, torch.Tensor):
                flops = 2.0 * out.numel() * max((t.shape[-1] for t in tensors[:2]), default=1)
            kind = str(out.dtype).removeprefix("torch.") if isinstance(out, torch.Tensor) else ""
            self.seen.append({"name": name, "bytes": moved, "flops": flops, "dtype": kind})
        return out


def _flatten(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in _flatten(part)]
    return [value]


def _answer_trace(function: Any, trace: dict[str, Any]) -> dict[str, Any]:
    launches: list[dict[str, Any]] = []
    storages: list[Any] = []

    def record(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        if not warmup:
            launches.append(_launch(self, args, kwargs, grid, storages))

    tensors = {
        name: torch.empty(spec["shape"], dtype=getattr(torch, spec["dtype"]), device="meta")
        for name, spec in trace["specs"].items()
    }
    operators = _Operators()
    run_kernel = InterpretedFunction.run
    InterpretedFunction.run = record
    try:
        with operators:
            _call(function, build(trace["arguments"], tensors))
    except Rejected as rejected:
        return {"error": [rejected.code, str(rejected)]}
    finally:
        InterpretedFunction.run = run_kernel
    return {"launches": launches, "operators": operators.seen}


def _launch(
    kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any, storages: list[Any]
) -> dict[str, Any]:
    arguments, options = interpret.bind(kernel, args, kwargs)
    fixed = interpret.constexprs(kernel)
    return {
        "kernel": kernel.fn.__name__,
        "grid": list(interpret.full_grid(grid, arguments)),
        "arguments": {name: _describe(value, storages) for name, value in arguments.items() if name not in fixed},
        "constexprs": {name: getattr(arguments[name], "value", arguments[name]) for name in sorted(fixed)},
        "options": {name: value for name, value in sorted(options.items()) if isinstance(value, (int, str, bool))},
    }


def _step(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What of a launch doesn't depend on size."""
    arguments, _ = interpret.bind(kernel, args, kwargs)
    fixed = {name: getattr(arguments[name], "value", arguments[name]) for name in interpret.constexprs(kernel)}
    given = {name: value for name, value in arguments.items() if name not in fixed}
    return {
        "kernel": kernel.fn.__name__,
        "types": {n: str(v.dtype).removeprefix("torch.") for n, v in given.items() if isinstance(v, torch.Tensor)},
        "words": {name: value for name, value in fixed.items() if isinstance(value, str)},
    }


def _describe(value: Any, storages: list[Any]) -> dict[str, Any]:
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        known = [index for index, other in enumerate(storages) if other._cdata == storage._cdata]
        if not known:
            storages.append(storage)  # kept alive, so that its identity isn't used twice
        return {
            "tensor": known[0] if known else len(storages) - 1,
            "offset": value.storage_offset() * value.element_size(),
            "dtype": str(value.dtype).removeprefix("torch."),
            "bytes": storage.nbytes(),
        }
    if isinstance(value, (bool, int, float)) or value is None:
        return {"value": value}
    raise Rejected("unsupported-argument", f"a kernel's argument is a {type(value).__name__}")
