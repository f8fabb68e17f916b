# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportMissingParameterType=false, reportUnknownParameterType=false
# pyright: reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""Runs a submission's host code for several calls of `custom_kernel`, and tells what it did.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import resource
import sys
import traceback
import types
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from triton.runtime.interpreter import InterpretedFunction

from . import pretend
from .operands import Rejected
from .record import NeedsValues, Recorder

WORDS_BYTES, FILE_BYTES = 1 << 20, 64 << 20
"""What a submission may print, and the size of any file that it writes."""


def record(request: dict[str, Any], tensors: dict[str, torch.Tensor], scratch: Path) -> tuple[dict[str, Any], bytes]:
    """Record a session.

    Args:
        request: `source`; `lazy`, whether large tensors have no memory; `execute`, whether kernels are run;
            `configs`, which configuration an autotuned kernel takes; `modules`, text by name of what the source may
            import beside its own; `calls`, each with `specs` (sizes and dtype of the inputs), `arguments` (how `data`
            is built of them) and `again` (the number of an earlier call whose tensors it gets with new values, or
            none).
        tensors: `CALL/NAME`, the values of inputs; those that are missing hold zeros.
        scratch: a folder of this process's own.

    Returns:
        `{"sizes", "constants", "choices", "prologue", "calls": [{"inputs", "steps", "output", "flags"}]}` and the
        constants as safetensors; `{"error": [code, detail]}`; or `{"again": reason}` where the host code reads values
        that kernels would have written, so that they must be run.
    """
    recorder = Recorder(lazy=request["lazy"], execute=request["execute"], configs=request["configs"])
    pretend.install(recorder)
    InterpretedFunction.run = lambda self, *args, grid, warmup, **kwargs: (
        None if warmup else recorder.launch(self, args, kwargs, grid)
    )
    said = _keep_words(scratch)
    try:
        with pretend.Pretence(recorder.read), recorder:
            answer = _session(request, tensors, scratch, recorder)
        _check_behaviour(said)
    except Rejected as rejected:
        return {"error": [rejected.code, str(rejected)]}, b""
    except NeedsValues as needs:
        return {"again": str(needs)}, b""
    constants = {str(number): value for number, value in recorder.constants.items()}
    answer |= {"sizes": recorder.sizes, "constants": sorted(recorder.constants), "choices": recorder.choices}
    return answer, save(constants) if constants else b""


def _keep_words(scratch: Path) -> Path:
    """Send what is printed to a file that can't grow without end."""
    said = scratch / "said"
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, hard))
    return said


def _check_behaviour(said: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    size = said.stat().st_size
    if size > WORDS_BYTES:
        raise Rejected("too-much-output", f"it printed {size} bytes or more, at most {WORDS_BYTES} are allowed")
    running = Path(f"/proc/self/task/{os.getpid()}/children")
    began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
    if began or (running.exists() and running.read_text().strip()):
        raise Rejected("forked", "it starts processes of its own, which a kernel has no use for")


def _session(
    request: dict[str, Any], tensors: dict[str, torch.Tensor], scratch: Path, recorder: Recorder
) -> dict[str, Any]:
    function = _import(request["source"], request["modules"], scratch)
    placed: list[dict[str, torch.Tensor]] = []
    prologue = _take(recorder)
    calls: list[dict[str, Any]] = []
    for index, call in enumerate(request["calls"]):
        placed.append(_place(call, index, tensors, placed, recorder))
        _take(recorder)  # how the inputs came about is no step
        # Before the call, which may change the shape of a tensor that it was given.
        inputs = {name: recorder.describe(tensor) for name, tensor in placed[-1].items()}
        value = _call(function, build(call["arguments"], placed[-1]))
        output = _output(value, recorder)
        calls.append({"inputs": inputs, "output": output, "steps": _take(recorder), "flags": _flags()})
    return {"prologue": prologue, "calls": calls}


def _take(recorder: Recorder) -> list[dict[str, Any]]:
    steps = list(recorder.steps)
    recorder.steps.clear()
    return steps


def _place(
    call: dict[str, Any], index: int, tensors: dict[str, torch.Tensor], placed: list[dict[str, torch.Tensor]],
    recorder: Recorder,
) -> dict[str, torch.Tensor]:  # fmt: skip
    inputs: dict[str, torch.Tensor] = {}
    for name, spec in call["specs"].items():
        values = tensors.get(f"{index}/{name}")
        if call["again"] is not None:
            inputs[name] = placed[call["again"]][name]
            recorder.refill(inputs[name], values)
        else:
            inputs[name] = recorder.place(spec["shape"], getattr(torch, spec["dtype"]), values)
    return inputs


def build(plan: Any, tensors: dict[str, Any]) -> Any:
    """Build `data` from a problem's plan and named tensors."""
    if isinstance(plan, dict):
        if set(plan) == {"tensor"}:
            return tensors[plan["tensor"]]
        if set(plan) == {"tuple"}:
            return tuple(build(part, tensors) for part in plan["tuple"])
        return {key: build(value, tensors) for key, value in plan.items()}
    return [build(part, tensors) for part in plan] if isinstance(plan, list) else plan


def _import(source: str, modules: dict[str, str], scratch: Path) -> Any:
    for name, text in modules.items():
        module = types.ModuleType(name)
        exec(compile(text, f"{name}.py", "exec"), module.__dict__)  # noqa: S102
        sys.modules[name] = module
    path = scratch / "submission.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("submission", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["submission"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Rejected, NeedsValues):
        raise
    except SyntaxError as error:
        raise Rejected("syntax-error", f"line {error.lineno}: {error.msg}") from None
    except BaseException as error:
        raise Rejected("import-error", _tail(error)) from None
    function = getattr(module, "custom_kernel", None)
    if not callable(function):
        raise Rejected("no-custom-kernel", "the module defines no function custom_kernel(data)")
    return function


def _call(function: Any, data: Any) -> Any:
    try:
        return function(data)
    except (Rejected, NeedsValues):
        raise
    except MemoryError:
        raise Rejected("memory", "out of memory") from None
    except OSError as error:
        code = "too-much-output" if error.errno == errno.EFBIG else "forked" if error.errno == errno.EAGAIN else "crash"
        raise Rejected(code, _tail(error)) from None
    except BaseException as error:
        full = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's own allocator
        raise Rejected("memory" if full else "crash", _tail(error)) from None


def _output(value: Any, recorder: Recorder) -> dict[str, Any]:
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, torch.nn.Parameter):
        value = value.data
    if type(value) is not torch.Tensor:
        raise Rejected("bad-output", f"custom_kernel returned a {type(value).__name__}, expected one torch.Tensor")
    if not recorder.knows(value):
        raise Rejected("bad-output", "the tensor that custom_kernel returned comes of no torch operator of its calls")
    return recorder.describe(value)


def _flags() -> dict[str, bool]:
    matmul: Any = torch.backends.cuda.matmul
    return {
        "tf32": bool(matmul.allow_tf32) or torch.get_float32_matmul_precision() != "highest",
        "cudnn_tf32": bool(torch.backends.cudnn.allow_tf32),
        "reduced_fp16": bool(matmul.allow_fp16_reduced_precision_reduction),
    }


def _tail(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith("submission.py")]
    where = f" at line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}: {error}"[:800]
