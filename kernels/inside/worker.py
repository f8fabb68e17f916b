# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""What a warm process does for the verifier: imports torch and Triton, then answers a request in a child of its own.

This file runs inside the sandbox, without the rest of Pawl, as `pawl_worker.worker` of `safety/sandbox/warm.py`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

_WARM_UP = """
import triton
import triton.language as tl

@triton.jit
def warm_up(x_ptr, y_ptr, N: tl.constexpr):
    i = tl.arange(0, N)
    x = tl.load(x_ptr + i[:, None] * N + i[None, :])
    y = tl.zeros([N, N], tl.float32)
    for start in range(0, tl.cdiv(N, 32)):
        y = tl.dot(x, tl.sigmoid(x), y) + tl.sum(x, 1)[:, None]
    tl.store(y_ptr + i[:, None] * N + i[None, :], y)
"""
"""A first use, ours: what Triton and LLVM do only once is done before the fork."""


def install(mode: str) -> None:
    """Import what requests need, and set it up."""
    if mode == "compile":
        from . import aot

        aot.install()
        return
    import torch

    torch.set_num_threads(1)
    from . import interpret

    interpret.install()
    for name in ("session", "replay", "partial", "counting"):  # for the children
        importlib.import_module(f".{name}", __package__)


def warm_up(mode: str) -> None:
    """Use once, before the fork, what requests need."""
    install(mode)
    path = Path.cwd() / "warm_up.py"
    path.write_text(_WARM_UP)
    spec = importlib.util.spec_from_file_location("warm_up", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if mode == "compile":
        from . import aot

        types = {"x_ptr": "*fp32", "y_ptr": "*fp32"}
        job = {"signature": types, "constexprs": {"N": 32}, "divisible": list(types), "options": {"num_warps": 4}}
        answer = aot.compile_launch(module.warm_up, job)
        if "error" in answer:
            raise SystemExit(f"the compiler doesn't work here: {answer['error'][1]}")
        return
    import torch

    from . import record

    record.warm_up()
    x = torch.ones(1024)
    module.warm_up[(2,)](x, torch.empty(1024), N=32)


def answer(request: dict[str, Any], blob: bytes, scratch: Path) -> tuple[dict[str, Any], bytes]:
    """Do what is asked; Triton's cache lies in the scratch."""
    os.environ.update(TRITON_HOME=str(scratch), TRITON_CACHE_DIR=str(scratch / "triton"))
    try:
        return _answer(request, blob, scratch)
    except MemoryError:
        return {"error": ["memory", "out of memory"]}, b""
    except BaseException as error:
        return {"error": ["crash", f"{type(error).__name__}: {error}"[:800]]}, b""


def _answer(request: dict[str, Any], blob: bytes, scratch: Path) -> tuple[dict[str, Any], bytes]:
    kind = request["kind"]
    if kind == "record":
        from . import session

        return session.record(request, _tensors(blob), scratch)
    if kind in ("replay", "part"):
        from . import partial, replay

        kernels = {name: getattr(_module(text, name, scratch), name) for name, text in request["kernels"].items()}
        play = replay.replay if kind == "replay" else partial.compute_part
        return play(request, _tensors(blob), kernels)
    modules = [_module(text, f"kernels_{number}", scratch) for number, text in enumerate(request["modules"])]
    do = _count if kind == "count" else _compile
    answers = [do(getattr(modules[job["module"]], job["kernel"]), job, scratch) for job in request["jobs"]]
    return {"answers": answers}, b""


def _tensors(blob: bytes) -> dict[str, Any]:
    from safetensors.torch import load

    return load(blob) if blob else {}


def _compile(kernel: Any, job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    from . import aot

    return aot.compile_launch(kernel, job)


def _count(kernel: Any, job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    from . import counting, interpret, replay

    prelude = job.get("prelude")
    try:
        values: dict[int, bytes] = {}
        if prelude is not None:
            kernels = {name: getattr(_module(text, name, scratch), name) for name, text in prelude["kernels"].items()}
            values = replay.contents_after(prelude, job["sizes"], kernels)
        return counting.count(kernel, job, values)
    except interpret.OutOfBounds as error:
        return {"error": ["out-of-bounds", str(error)[:400]]}
    except Exception as error:
        return {"error": ["not-countable", f"{type(error).__name__}: {error}"[:400]]}


def _module(text: str, name: str, scratch: Path) -> Any:
    path = scratch / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
