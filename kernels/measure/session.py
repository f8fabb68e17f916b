"""One process of a submission, in the sandbox, and one timed call of it.

The time of a call begins when the child is handed the buffer's descriptor, before which it can't see the inputs, and
ends when the parent holds a copy of the output in memory of its own. So whatever is done for the output lies between,
or isn't in the copy; what the child says of it doesn't matter. Work that still runs on the device when the child
answers delays that copy.
"""

import asyncio
import gc
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ...core import SandboxUnavailable
from ...safety.sandbox import Command, Ending, Limits, Result, Sandbox, Use
from ...safety.sandbox.trees import remove_tree
from ..answers import Failure
from ..report import FailureClass
from .accelerator import Accelerator, Buffer, NoRoom
from .layout import Layout, raw_bytes
from .messages import Broken, Load, Loaded, Ran, Release, Released, receive, run_message, send
from .report import Reason, Refusal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

_START_SECONDS = 180.0
_END_SECONDS = 3.0


class Refused(Exception):
    """Ends the measurement of a submission; caught in `measure`."""

    def __init__(self, code: Refusal | FailureClass, detail: str) -> None:
        super().__init__(detail)
        self.reason = Reason(code=code, detail=detail)


@dataclass(frozen=True)
class Taken:
    """A call that has ended."""

    window_us: float
    told: Ran
    output: "NDArray[np.uint8]"
    buffer: Buffer
    """As the child left it; still mapped by it."""


class TimedProcess:
    """A submission's process; its calls block, and belong in one thread beside the event loop."""

    def __init__(self, sandbox: Sandbox, accelerator: Accelerator, *, call_seconds: float, limits: Limits) -> None:
        self._sandbox = sandbox
        self._accelerator = accelerator
        self._call_seconds = call_seconds
        self._limits = limits
        self._work = Path()
        self._run: asyncio.Task[Result] | None = None
        self._connection: socket.socket | None = None

    async def __aenter__(self) -> "TimedProcess":
        """Start it.

        Raises:
            SandboxUnavailable: it doesn't start.
        """
        self._work = work = Path(tempfile.mkdtemp(prefix="pawl-timed-")).resolve()
        child = {
            "pawl_timed/__init__.py": b"",
            "pawl_timed/child.py": Path(__file__).with_name("child.py").read_bytes(),
        }
        for name, data in {**child, **self._accelerator.bundle()}.items():
            path = work / "bundle" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._run = run = asyncio.create_task(self._sandbox.run(self._command(work)))
        place, deadline = work / "socket", time.monotonic() + _START_SECONDS
        while not place.exists():
            await asyncio.wait([run], timeout=0.02)
            if run.done() or time.monotonic() > deadline:
                words = self._how() or f"no answer within {_START_SECONDS:.0f} s"
                await self.__aexit__(None, None, None)
                raise SandboxUnavailable(f"The process that runs a submission on the device didn't start: {words}.")
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(place))
        self._connection.settimeout(self._call_seconds)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and all that it started, and remove its folder."""
        if self._connection is not None:
            self._connection.close()
        if self._run is not None:
            await asyncio.wait([self._run], timeout=_END_SECONDS)
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)
        await asyncio.to_thread(remove_tree, self._work)

    def load(self, source: str, modules: Mapping[str, str]) -> None:
        """Import a submission, which may import these modules, text by name.

        Raises:
            Refused: it can't be imported.
        """
        with self._answering() as connection:
            send(connection, Load(source=source, modules=dict(modules)))
            told = receive(connection, Loaded)
        if isinstance(told, Failure):
            raise Refused(*told.error)

    def call(
        self, layout: Layout, inputs: "Arrays", arguments: JsonValue, *, slot: int, empty: bool, profile: bool
    ) -> Taken:
        """Time one call.

        Raises:
            Refused: it failed, gave no output, or took too long.
        """
        try:
            buffer = self._accelerator.allocate(layout.bytes)
            try:
                return self._call(buffer, layout, inputs, arguments, slot=slot, empty=empty, profile=profile)
            except BaseException:
                buffer.close()
                raise
        except NoRoom as error:
            detail = f"its process leaves the device no room for a call's inputs and output: {error}"
            raise Refused(FailureClass.MEMORY, detail) from error

    def _call(
        self, buffer: Buffer, layout: Layout, inputs: "Arrays", arguments: JsonValue, *, slot: int, empty: bool,
        profile: bool,
    ) -> Taken:  # fmt: skip
        buffer.poison()
        for name, place in layout.inputs.items():
            buffer.write(place.offset, raw_bytes(name, inputs[name], place))
        copy = buffer.private_copy(layout.output.offset, layout.output.bytes)
        nonce = secrets.token_hex(16)
        message = run_message(
            layout, arguments, nonce=nonce, slot=slot, buffer=buffer.bytes, empty=empty, profile=profile
        )
        descriptor = buffer.descriptor()
        collects = gc.isenabled()
        gc.disable()
        try:
            with self._answering() as connection:
                self._accelerator.settle()
                begin = time.perf_counter_ns()
                send(connection, message, descriptor)
                told = receive(connection, Ran)
                copy.take()
                end = time.perf_counter_ns()
        finally:
            os.close(descriptor)
            if collects:
                gc.enable()
        if isinstance(told, Failure):
            raise Refused(*told.error)
        if told.nonce != nonce:
            raise Refused(Refusal.UNREADABLE, "the answer to a call repeats another nonce than the call's")
        return Taken((end - begin) / 1000, told, copy.read(), buffer)

    def release(self, taken: Taken, slot: int) -> None:
        """Have the child unmap a call's buffer, and give the memory back.

        Raises:
            Refused: it doesn't answer.
        """
        try:
            with self._answering() as connection:
                send(connection, Release(slot=slot))
                told = receive(connection, Released)
        finally:
            taken.buffer.close()
        if isinstance(told, Failure) or told.released != slot:
            raise Refused(Refusal.UNREADABLE, "a buffer was not released when it was to be")

    def _answering(self) -> "_Answering":
        assert self._connection is not None
        return _Answering(self, self._connection)

    def failure(self, error: Exception) -> Refused:
        """Why nothing, or no answer, came."""
        if isinstance(error, TimeoutError):
            return Refused(FailureClass.TIMEOUT, f"no answer within {self._call_seconds:g} s")
        for _ in range(40):  # the sandbox tells how it ended a moment later
            if self._run is None or self._run.done():
                break
            time.sleep(0.05)
        ending = self._ending()
        if ending is Ending.MEMORY_LIMIT:
            return Refused(FailureClass.MEMORY, "its process held more memory than it may")
        if ending is Ending.TIMED_OUT:
            return Refused(FailureClass.TIMEOUT, "its process ran longer than it may")
        if ending is not None:
            return Refused(FailureClass.CRASH, self._how() or "its process ended before it answered")
        return Refused(Refusal.UNREADABLE, f"the answer can't be read: {error}")

    def _ending(self) -> Ending | None:
        run = self._run
        if run is None or not run.done() or run.cancelled() or run.exception() is not None:
            return None
        return run.result().ending

    def _how(self) -> str:
        run = self._run
        if run is None or not run.done() or run.cancelled():
            return ""
        error = run.exception()
        if error is not None:
            return str(error)
        result = run.result()
        words = result.stderr[-600:].decode(errors="replace").strip()
        return f"it ended with {result.ending} {result.status} {words}".strip()

    def _command(self, work: Path) -> Command:
        start = f"import sys; sys.path.insert(0, {str(work / 'bundle')!r}); from pawl_timed import child; child.main()"
        return Command(
            argv=(
                sys.executable, "-I", "-B", "-c", start, self._accelerator.memory_module, str(work / "socket"),
            ),
            work=work,
            mounts=self._accelerator.mounts(self._sandbox),
            env={"TRITON_CACHE_DIR": str(work / "triton"), "CUDA_CACHE_PATH": str(work / "cuda")},
            limits=self._limits,
            use=Use.KERNEL,
        )  # fmt: skip


class _Answering:
    """Turns what goes wrong on a connection into a refusal."""

    def __init__(self, process: TimedProcess, connection: socket.socket) -> None:
        self._process, self._connection = process, connection

    def __enter__(self) -> socket.socket:
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Broken | TimeoutError):
            raise self._process.failure(error) from error
