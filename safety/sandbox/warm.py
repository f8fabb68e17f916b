"""A warm sandbox: a process that has imported what is slow to import, and answers each request in a child of its own.

    warm = WarmSandbox(default_sandbox(), Program("worker", {"worker.py": source}), limits=Limits(wall_seconds=60))
    reply = await warm.ask({"what": "this"}, blob)
    await warm.close()

A child has namespaces (or, without them, a Landlock domain), scratch and process tree of its own, under the layers that
a run of its own would have; all of it is gone when `ask` returns. See `nursery.py` for the inside.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from ...core import SandboxUnavailable
from .protocol import Command, Ending, Limits, Result, Sandbox, Use
from .trees import remove_tree
from .untrusted import parse_untrusted

_INSIDE = Path(__file__).parent
_START_SECONDS = 180.0
_GRACE_SECONDS = 15.0
_HEADER_BYTES = 32 << 20
_NO_ROOM = "no child could be forked"
_ITS_LIMITS = frozenset({Ending.MEMORY_LIMIT, Ending.SCRATCH_LIMIT})
_OWN_MEMORY, _OWN_SCRATCH, _OWN_PROCESSES = 2 << 30, 256 << 20, 64


@dataclass(frozen=True)
class Program:
    """What a warm process imports and how it answers; Pawl's own code."""

    module: str
    """A module with `warm_up(*arguments)` and `answer(request, blob, scratch) -> (answer, blob)`."""
    bundle: Mapping[str, bytes]
    """Files by relative path, importable inside."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What came of a request: data, whatever the child did."""

    ending: Ending
    status: int
    """Exit status, or the signal's number for `SIGNALLED`."""
    answer: dict[str, JsonValue] | None
    """None where the child gave no answer that can be read."""
    blob: bytes
    cpu_seconds: float
    """CPU time of the child and all it started, as the kernel counts it."""
    wall_seconds: float
    detail: str = ""
    """Why there is no answer, where the ending doesn't say it."""


class _Lost(Exception):
    """A request was lost with the warm process, or for want of room, which another request may be the cause of."""

    def __init__(self, message: str, ending: Ending | None) -> None:
        super().__init__(message)
        self.ending = ending


class _TooLong(Exception):
    """An answer is over the limit."""


class WarmSandbox:
    """One warm process, started with the first request; safe to ask many times at once from one event loop."""

    def __init__(
        self,
        sandbox: Sandbox,
        program: Program,
        *,
        limits: Limits,
        at_once: int = 2,
        answer_bytes: int = 1 << 30,
        use: Use = Use.KERNEL,
    ) -> None:
        """Say what to start.

        Args:
            sandbox: runs the warm process.
            program: what it imports.
            limits: what one request may take; `memory_bytes` counts from what the imports hold.
            at_once: requests at work at once; more wait.
            answer_bytes: the most that an answer and its blob may hold.
            use: what the children are run for.
        """
        self._sandbox = sandbox
        self._program = program
        self._limits = limits
        self._at_once = at_once
        self._answer_bytes = answer_bytes
        self._use = use
        self._slots = asyncio.Semaphore(at_once)
        self._turn = asyncio.Lock()
        self._starting = asyncio.Lock()
        self._control: socket.socket | None = None
        self._run: asyncio.Task[Result] | None = None
        self._silent: asyncio.Task[Result] | None = None
        """The warm process that was last ended because it didn't answer."""
        self._work: Path | None = None

    async def ask(self, request: dict[str, JsonValue], blob: bytes = b"") -> Reply:
        """Send a request to a fresh child, and wait until it is gone.

        Raises:
            SandboxUnavailable: the warm process doesn't start, can't confine a child, or ended meanwhile; the next
                request starts another.
        """
        try:
            async with self._slots:
                return await self._once(request, blob)
        except _Lost:  # to this request or to one beside it: asked alone, it is told which
            async with contextlib.AsyncExitStack() as held:
                async with self._turn:
                    for _ in range(self._at_once):
                        await held.enter_async_context(self._slots)
                began = time.monotonic()
                try:
                    return await self._once(request, blob)
                except _Lost as lost:
                    if lost.ending is None:
                        raise SandboxUnavailable(str(lost)) from lost
                    seconds = time.monotonic() - began
                    return Reply(lost.ending, signal.SIGKILL, None, b"", 0.0, seconds, str(lost))

    async def close(self) -> None:
        """End the warm process with all its children, and remove its folder."""
        await self._close(patience=10)

    async def _close(self, *, patience: float) -> None:
        control, run, work = self._control, self._run, self._work
        self._control = self._run = self._work = None
        if control is not None:
            control.close()
        if run is not None:
            await asyncio.wait([run], timeout=patience)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        if work is not None:
            await asyncio.to_thread(remove_tree, work)

    async def _once(self, request: dict[str, JsonValue], blob: bytes) -> Reply:
        began = time.monotonic()
        ours, told = await self._fork()
        run = self._run
        said, listening = await _listen(told)
        answer, outputs, detail, over = None, b"", "", False
        try:
            async with asyncio.timeout(self._limits.wall_seconds + _GRACE_SECONDS):
                try:
                    answer, outputs, detail = await self._exchange(ours, request, blob)
                except _TooLong as error:
                    detail, over = str(error), True
                words = (await said.read()).decode(errors="replace")
        except TimeoutError:
            words = "it doesn't answer"
            if run is self._run:
                self._silent = run
                await self._close(patience=0)
        finally:
            listening.close()
        parts = words.split()
        if len(parts) < 4 or parts[0] != "ok":
            raise await self._failure(words, run)
        code, cpu, ending = int(parts[1]), float(parts[2]), Ending(parts[-1])
        status = os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code)
        if answer is not None:
            ending, status = Ending.EXITED, 0
        elif over:
            ending = Ending.OUTPUT_LIMIT
        elif ending is Ending.EXITED and os.WIFSIGNALED(code):
            ending = Ending.SIGNALLED
        return Reply(ending, status, answer, outputs, cpu, time.monotonic() - began, detail)

    async def _fork(self) -> tuple[socket.socket, int]:
        """A connection to a new child, and where its ending is told."""
        for attempt in range(2):
            control = await self._ready()
            ours, theirs = socket.socketpair()
            told, tell = os.pipe()
            try:
                socket.send_fds(control, [b"."], [theirs.fileno(), tell])
            except OSError as error:  # it has just ended; nothing was started
                ours.close()
                os.close(told)
                await self.close()
                if attempt:
                    raise SandboxUnavailable(
                        f"The warm process {self._program.module} can't be reached: {error}"
                    ) from error
            else:
                return ours, told
            finally:
                theirs.close()
                os.close(tell)
        raise AssertionError

    async def _exchange(
        self, connection: socket.socket, request: dict[str, JsonValue], blob: bytes
    ) -> tuple[dict[str, JsonValue] | None, bytes, str]:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=1 << 22)
        try:
            text = json.dumps(request).encode()
            writer.writelines([struct.pack("<QQ", len(text), len(blob)), text, blob])
            await writer.drain()
            header, size = struct.unpack("<QQ", await reader.readexactly(16))
            if header > _HEADER_BYTES or header + size > self._answer_bytes:
                raise _TooLong(f"an answer of {header + size} bytes")
            answer = parse_untrusted(await reader.readexactly(header))
            if not isinstance(answer, dict):
                raise ValueError(f"a {type(answer).__name__}, expected an object")
            return answer, await reader.readexactly(size), ""
        except (asyncio.IncompleteReadError, ConnectionError):
            return None, b"", "it ended before it answered"
        except ValueError as error:
            return None, b"", f"an answer that can't be read: {error}"
        finally:
            writer.transport.abort()  # if the child isn't at its end, the warm process ends it for this

    async def _failure(self, words: str, run: "asyncio.Task[Result] | None") -> Exception:
        """What to raise where a child wasn't heard to its end."""
        name = f"The warm process {self._program.module}"
        if words.startswith(_NO_ROOM):
            return _Lost(f"{name} could not give a request its own sandbox: {words}.", None)
        if run is not None and run is self._silent:
            return _Lost(f"{name} did not answer in time.", Ending.TIMED_OUT)
        if words and not words.startswith("ok"):
            words = f"{name} could not give a request its own sandbox: {words}."
            return SandboxUnavailable(f"{words} See `pawl doctor` for what works here.")
        how = ""
        if run is not None:
            await asyncio.wait([run], timeout=_GRACE_SECONDS)
            if run is self._run:
                await self.close()
            how = f": {_how(run)}" if run.done() else ""
            if run.done() and not run.cancelled() and run.exception() is None and run.result().ending in _ITS_LIMITS:
                return _Lost(f"{name} ended during a request{how}", run.result().ending)
        return SandboxUnavailable(
            f"{name} ended during a request{how}. Ask again, which starts another; if it ends again, see `pawl doctor` "
            "for what the sandbox offers."
        )

    async def _ready(self) -> socket.socket:
        async with self._starting:
            if self._control is None or self._run is None or self._run.done():
                await self.close()
                self._control = await self._start()
            return self._control

    async def _start(self) -> socket.socket:
        self._work = work = Path(tempfile.mkdtemp(prefix="pawl-")).resolve()
        for name, data in self._program.bundle.items():
            path = work / "bundle" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        run = self._run = asyncio.create_task(self._sandbox.run(self._command(work)))
        deadline = time.monotonic() + _START_SECONDS
        while not (work / "socket").exists():
            await asyncio.wait([run], timeout=0.02)
            if run.done() or time.monotonic() > deadline:
                words = _how(run) if run.done() else f"no answer within {_START_SECONDS:.0f} s"
                await self.close()
                raise SandboxUnavailable(f"The warm process {self._program.module} didn't start: {words}")
        control = socket.socket(socket.AF_UNIX)
        control.connect(str(work / "socket"))
        control.setblocking(False)
        return control

    def _command(self, work: Path) -> Command:
        path = [str(work / "bundle"), str(_INSIDE)]
        start = f"import sys; sys.path[:0] = {path!r}; import nursery, launcher; del sys.path[1]; nursery.main()"
        child, at_once = self._limits, self._at_once
        return Command(
            argv=(
                sys.executable, "-I", "-B", "-c", start,
                self._program.module, str(work / "socket"), *self._program.arguments,
            ),
            work=work,
            env=dict(self._program.env),
            limits=Limits(
                wall_seconds=30 * 86_400.0,
                cpu_seconds=10_000_000,
                memory_bytes=0,
                total_memory_bytes=_OWN_MEMORY + at_once * child.total_memory_bytes,
                file_bytes=child.file_bytes,
                scratch_bytes=_OWN_SCRATCH + at_once * child.scratch_bytes,
                processes=_OWN_PROCESSES + at_once * child.processes,
            ),
            use=self._use,
            nested=child,
        )  # fmt: skip


def _how(run: "asyncio.Task[Result]") -> str:
    if run.cancelled():
        return "it was cancelled"
    error = run.exception()
    if error is not None:
        return str(error)
    result = run.result()
    return f"it ended with {result.ending} {result.status} {result.stderr[-600:].decode(errors='replace')}".strip()


async def _listen(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    """Read a pipe, which is closed with the transport."""
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
    except BaseException:
        pipe.close()
        raise
    return reader, transport
