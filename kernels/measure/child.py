# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
"""The submission's process: imports it, runs it when asked, and answers that it did.

Run as `python -I -B -c "..." MEMORY SOCKET` inside the sandbox, without the rest of Pawl. MEMORY is a module with
`open_memory()`; see `cuda_memory.py`. All of this is in the submission's reach once it was imported, so nothing
here decides anything: the parent takes the time, holds the inputs back until it does, and grades bytes.
"""

import importlib
import importlib.util
import json
import os
import socket
import struct
import sys
import traceback
import types
from pathlib import Path
from typing import Any

import torch

_HEADER = struct.Struct("<Q")
_copy = torch.Tensor.copy_


class Failed(Exception):
    """Ends a request with a failure class and words."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class Child:
    """Answers requests, one at a time."""

    def __init__(self, memory: Any, scratch: Path) -> None:
        self.memory = memory
        self.scratch = scratch
        self.function: Any = None
        self.reserved: dict[int, tuple[int, int]] = {}
        self.spare: dict[tuple[Any, ...], torch.Tensor] = {}

    def answer(self, request: dict[str, Any], descriptor: int | None) -> dict[str, Any]:
        """Do what is asked."""
        try:
            if request["kind"] == "load":
                self.function = load(request["source"], request["modules"], self.scratch)
                return {"loaded": True}
            if request["kind"] == "release":
                self.memory.unmap(*self.reserved[request["slot"]])
                return {"released": request["slot"]}
            assert descriptor is not None
            return self.run(request, descriptor)
        except Failed as failed:
            return {"error": [failed.code, str(failed)[:3000]]}

    def run(self, request: dict[str, Any], descriptor: int) -> dict[str, Any]:
        """Map the buffer, call, deliver."""
        slot, size = request["slot"], request["bytes"]
        if slot not in self.reserved:
            self.reserved[slot] = (self.memory.reserve(size), size)
        address = self.reserved[slot][0]
        self.memory.map(address, size, descriptor)
        os.close(descriptor)
        tensors = {name: self._tensor(address, place) for name, place in request["inputs"].items()}
        output = self._tensor(address, request["output"])
        data = build(request["arguments"], tensors)

        def call() -> Any:
            if request["empty"]:
                return self._own(output)
            try:
                return self.function(data)
            except MemoryError:
                raise Failed("memory", "out of memory") from None
            except BaseException as error:
                raise Failed("crash", tail(error)) from None

        if request["profile"]:
            result, micros, span, kernels = self.memory.profile(call)
        else:
            result, micros = self.memory.time(call)
            span, kernels = None, None
        if not request["empty"]:
            result = checked(result, output)
        _copy(output, result)
        self.memory.synchronize()
        return {"nonce": request["nonce"], "events_us": micros, "span_us": span, "kernels": kernels}

    def _tensor(self, address: int, place: dict[str, Any]) -> torch.Tensor:
        return self.memory.tensor(address + place["offset"], place["bytes"], place["dtype"], place["shape"])

    def _own(self, like: torch.Tensor) -> torch.Tensor:
        key = (tuple(like.shape), like.dtype)
        if key not in self.spare:
            self.spare[key] = torch.zeros_like(like)
        return self.spare[key]


def load(source: str, modules: dict[str, str], scratch: Path) -> Any:
    """Import a submission, with the modules that it may import beside its own, and return its `custom_kernel`."""
    for name, text in modules.items():
        beside = sys.modules[name] = types.ModuleType(name)
        exec(compile(text, f"{name}.py", "exec"), beside.__dict__)  # noqa: S102
    path = scratch / "submission.py"
    path.write_text(source, errors="surrogatepass")
    spec = importlib.util.spec_from_file_location("submission", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["submission"] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise Failed("syntax-error", f"line {error.lineno}: {error.msg}") from None
    except BaseException as error:
        raise Failed("crash", tail(error)) from None
    function = getattr(module, "custom_kernel", None)
    if not callable(function):
        raise Failed("no-custom-kernel", "the module defines no function custom_kernel(data)")
    return function


def build(plan: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Build `data` from a problem's plan and named tensors."""
    if isinstance(plan, dict):
        if set(plan) == {"tensor"}:
            return tensors[plan["tensor"]]
        if set(plan) == {"tuple"}:
            return tuple(build(part, tensors) for part in plan["tuple"])
        return {key: build(value, tensors) for key, value in plan.items()}
    return [build(part, tensors) for part in plan] if isinstance(plan, list) else plan


def checked(value: Any, like: torch.Tensor) -> torch.Tensor:
    """The output, if it is one plain tensor of the type, shape and device that are expected."""
    if type(value) is tuple and len(value) == 1:
        value = value[0]
    if type(value) is not torch.Tensor:
        raise Failed("bad-output", f"custom_kernel returned a {type(value).__name__}, expected one torch.Tensor")
    for what in ("dtype", "shape", "device"):
        found, expected = getattr(value, what), getattr(like, what)
        if found != expected:
            raise Failed("bad-output", f"the output's {what} is {found}, expected {expected}")
    return value.detach()


def tail(error: BaseException) -> str:
    """What went wrong in the submission, and in which of its lines."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith("submission.py")]
    where = f" at line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}: {error}"[:800]


def receive(connection: socket.socket) -> tuple[dict[str, Any], int | None]:
    """One request, and the descriptor that came with it."""
    header, descriptors, _, _ = socket.recv_fds(connection, _HEADER.size, 1)
    if not header:
        raise EOFError
    while len(header) < _HEADER.size:
        header += connection.recv(_HEADER.size - len(header))
    left, body = _HEADER.unpack(header)[0], bytearray()
    while len(body) < left:
        chunk = connection.recv(left - len(body))
        if not chunk:
            raise EOFError
        body += chunk
    return json.loads(body), descriptors[0] if descriptors else None


def main() -> None:
    """Serve one parent until it closes its end."""
    memory = importlib.import_module(sys.argv[1]).open_memory()
    child = Child(memory, Path.cwd())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[2] + ".new")
    listener.listen(1)
    os.rename(sys.argv[2] + ".new", sys.argv[2])  # the parent finds one that listens
    connection, _ = listener.accept()
    while True:
        try:
            request, descriptor = receive(connection)
        except EOFError:
            os._exit(0)  # threads that a submission left behind would hold up an ordinary end
        body = json.dumps(child.answer(request, descriptor)).encode()
        connection.sendall(_HEADER.pack(len(body)) + body)
