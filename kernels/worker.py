# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""A warm process: imports torch and Triton once, then forks a child for each request.

    python -m pawl_worker.zygote interpret|compile SOCKET

The process that was forked from never runs what a candidate wrote; a child does, under its own limits, in a folder
of its own, and dies. Requests and answers are a JSON header and a blob, each after its length, on a Unix socket.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
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


def read(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Read one message."""
    with connection.makefile("rb") as file:
        header, blob = struct.unpack("<QQ", file.read(16))
        return json.loads(file.read(header)), file.read(blob)


def write(connection: socket.socket, message: dict[str, Any], blob: bytes) -> None:
    """Write one message."""
    text = json.dumps(message).encode()
    connection.sendall(struct.pack("<QQ", len(text), len(blob)) + text + blob)


def answer(request: dict[str, Any], blob: bytes, scratch: Path) -> tuple[dict[str, Any], bytes]:
    """Do what is asked."""
    if request["kind"] == "candidate":
        from . import candidate

        return candidate.run(request, blob, scratch)
    path = scratch / "kernels.py"
    path.write_text(request["source"])
    spec = importlib.util.spec_from_file_location("kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answers = []
    for job in request["jobs"]:
        kernel = getattr(module, job["kernel"])
        if request["kind"] == "count":
            from . import counting, interpret

            try:
                answers.append(counting.count(kernel, job))
            except interpret.Diverged:
                answers.append({"error": ["not-countable", "its programs branch apart, which can't be counted yet"]})
            except Exception as error:
                answers.append({"error": ["not-countable", f"{type(error).__name__}: {error}"[:400]]})
        else:
            from . import aot

            answers.append(aot.compile_launch(kernel, job))
    return {"answers": answers}, b""


def child(connection: socket.socket, limits: dict[str, Any]) -> None:
    """Serve one request and leave."""
    os.setsid()
    seconds = int(limits["seconds"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scratch = Path(tempfile.mkdtemp(dir=os.getcwd(), prefix=f"job-{os.getpid()}-"))
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    os.chdir(scratch)
    request, blob = read(connection)
    _limit_memory(limits["memory"])
    try:
        reply, outputs = answer(request, blob, scratch)
    except MemoryError:
        reply, outputs = {"error": ["memory", "out of memory"]}, b""
    except BaseException as error:
        reply, outputs = {"error": ["crash", f"{type(error).__name__}: {error}"[:800]]}, b""
    used = os.times()
    seconds = used.user + used.system + used.children_user + used.children_system
    write(connection, reply | {"cpu_seconds": seconds}, outputs)


def _limit_memory(extra: int) -> None:
    """Let the address space grow by so many bytes beyond what the imports have reserved."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    ceiling = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))


def serve(mode: str, path: str) -> None:
    """Serve until the lifeline, the parent's first connection, ends: when the parent closes it or is gone."""
    _warm(mode)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path + ".new")
    listener.listen(64)
    os.rename(path + ".new", path)
    listener.settimeout(60)
    lifeline, _ = listener.accept()
    lifeline.settimeout(None)
    listener.settimeout(None)
    limits = json.loads(os.environ["PAWL_LIMITS"])
    gc.collect()
    gc.freeze()
    children: dict[int, float] = {}
    while True:
        ready, _, _ = select.select([listener, lifeline], [], [], 0.05 if children else 60)
        _reap(children)
        if lifeline in ready:
            for pid in children:
                _kill(-pid)
            return
        if listener not in ready:
            continue
        connection, _ = listener.accept()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                listener.close()
                lifeline.close()
                child(connection, limits)
                code = 0
            finally:
                os._exit(code)
        connection.close()
        children[pid] = time.monotonic() + limits["seconds"]


def _reap(children: dict[int, float]) -> None:
    for pid, deadline in list(children.items()):
        if time.monotonic() > deadline:
            _kill(-pid)
        if os.waitpid(pid, os.WNOHANG)[0]:
            _kill(-pid)  # whatever it left behind in its group
            for scratch in Path.cwd().glob(f"job-{pid}-*"):
                shutil.rmtree(scratch, ignore_errors=True)
            del children[pid]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _warm(mode: str) -> None:
    path = Path.cwd() / "warm_up.py"
    path.write_text(_WARM_UP)
    spec = importlib.util.spec_from_file_location("warm_up", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if mode == "compile":
        from . import aot

        aot.install()
        types = {"x_ptr": "*fp32", "y_ptr": "*fp32"}
        job = {"signature": types, "constexprs": {"N": 32}, "divisible": list(types), "options": {"num_warps": 4}}
        answer = aot.compile_launch(module.warm_up, job)
        if "error" in answer:
            raise SystemExit(f"the compiler doesn't work here: {answer['error'][1]}")
        return
    import torch

    torch.set_num_threads(1)
    from . import candidate, counting, interpret

    interpret.install()
    candidate.warm_up()
    assert counting.SAMPLE  # imported for the children
    x = torch.ones(1024)
    module.warm_up[(2,)](x, torch.empty(1024), N=32)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
