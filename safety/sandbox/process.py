"""One child process to its end: fed, drained under a cap, timed, and ended with everything it started."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .protocol import Ending, Limits, Result
from .watch import over_scratch, watch_tree

_CHUNK = 1 << 16
_GRACE_SECONDS = 5.0
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Confined:
    """A result, whether the launcher let the program start, and what it said where it didn't."""

    result: Result
    launched: bool
    message: str


class _Drain:
    """Reads one pipe to its end and keeps the first `cap` bytes."""

    def __init__(self, descriptor: int, cap: int, over: asyncio.Event, stop: asyncio.Event) -> None:
        self.descriptor, self.cap, self.over, self.stop = descriptor, cap, over, stop
        self.data = bytearray()
        self.ended = asyncio.Event()
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        room = self.cap - len(self.data)
        self.data += chunk[:room]
        if len(chunk) > room:
            self.over.set()
            self.stop.set()
        if not chunk:
            self.close()

    def close(self) -> None:
        if not self.ended.is_set():
            asyncio.get_running_loop().remove_reader(self.descriptor)
            self.ended.set()


async def run_process(
    argv: Sequence[str],
    *,
    status: tuple[int, int],
    env: Mapping[str, str],
    cwd: Path,
    stdin: bytes,
    limits: Limits,
    inherit: Sequence[int] = (),
    user: int | None = None,
    writable: Sequence[Path] = (),
    out_of_memory: Callable[[], bool] | None = None,
) -> Confined:
    """Run a launcher's argument vector in a session of its own.

    Args:
        argv: what to run.
        status: both ends of the pipe on which the launcher answers; both are closed here.
        env: the whole environment.
        cwd: where it runs.
        stdin: what it reads.
        limits: wall clock, output cap, scratch and memory of the tree are watched here, the rest is the launcher's.
        inherit: further descriptors that the launcher gets.
        user: whose the pipes become, so that the program can open /dev/stdout.
        writable: folders that count as scratch.
        out_of_memory: says whether the kernel ended something for memory; without it the tree's memory is watched.
    """
    started = time.monotonic()
    try:
        process = _spawn(argv, (status[1], *inherit), env, cwd, empty=not stdin)
    except BaseException:
        os.close(status[0])
        raise
    finally:
        os.close(status[1])
    loop = asyncio.get_running_loop()
    pipes = [pipe for pipe in (process.stdin, process.stdout, process.stderr) if pipe is not None]
    if user is not None:
        for pipe in pipes:
            os.fchown(pipe.fileno(), user, user)
    over, exited, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(watch_tree(process.pid, limits, writable, out_of_memory))
    watching.add_done_callback(lambda _: stop.set())
    watch = os.pidfd_open(process.pid)
    loop.add_reader(watch, lambda: (loop.remove_reader(watch), exited.set(), stop.set()))
    drains = [
        _Drain(pipe.fileno(), limits.output_bytes, over, stop) for pipe in (process.stdout, process.stderr) if pipe
    ]
    writer = asyncio.create_task(_feed(process, stdin))
    timed_out, lost_cpu = False, 0.0
    try:
        try:
            async with asyncio.timeout(limits.wall_seconds):
                await stop.wait()
        except TimeoutError:
            timed_out = True
        if not exited.is_set():
            lost_cpu = _tree_cpu_seconds(process.pid)
    finally:
        inside = [] if exited.is_set() else _children(process.pid)
        try:
            await _ask_to_end(process, exited)
        finally:
            code, cpu = _end(process)
            await _see_gone(inside)
        loop.remove_reader(watch)
        os.close(watch)
        writer.cancel()
        watching.cancel()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await asyncio.gather(writer, watching, return_exceptions=True)
                    for drain in drains:
                        await drain.ended.wait()
        finally:
            for drain in drains:
                drain.close()
            message = _read_status(status[0])
            for pipe in pipes:
                with contextlib.suppress(OSError):
                    pipe.close()
    said = message.decode(errors="replace").split()
    launched = said[:1] == ["ok"]
    cpu = max(cpu, lost_cpu)
    if launched and len(said) == 3:
        code, cpu = int(said[1]), max(float(said[2]), lost_cpu)
    ending, number = _ending(code, timed_out=timed_out, over=over.is_set())
    if watching.done() and not watching.cancelled():
        ending, number = watching.result(), int(signal.SIGKILL)
    elif over_scratch(writable, limits):
        ending = Ending.SCRATCH_LIMIT
    result = Result(
        ending=ending,
        status=number,
        stdout=bytes(drains[0].data),
        stderr=bytes(drains[1].data),
        wall_seconds=time.monotonic() - started,
        cpu_seconds=cpu,
    )
    return Confined(result, launched, message="" if launched else message.decode(errors="replace"))


def _spawn(
    argv: Sequence[str], inherit: Sequence[int], env: Mapping[str, str], cwd: Path, *, empty: bool
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL if empty else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=tuple(inherit),
        start_new_session=True,
    )


async def _ask_to_end(process: "subprocess.Popen[bytes]", exited: asyncio.Event) -> None:
    """Let the launcher end the program and what it started, and answer for its CPU time."""
    if not exited.is_set():
        os.kill(process.pid, signal.SIGTERM)  # not `send_signal`, which reaps one that has just ended
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                await exited.wait()


def _children(pid: int) -> list[int]:
    """Descriptors of a process's children: where bubblewrap is in between, of the launcher."""
    try:
        return [os.pidfd_open(int(child)) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


async def _see_gone(processes: Sequence[int]) -> None:
    """End processes and wait until the kernel has; with the first of a namespace everything in it is gone."""
    loop = asyncio.get_running_loop()
    for process in processes:
        gone = asyncio.Event()
        loop.add_reader(process, gone.set)
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                await gone.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(process)
            os.close(process)


def _end(process: "subprocess.Popen[bytes]") -> tuple[int, float]:
    """Kill the whole session and reap its leader; returns its wait status and CPU seconds.

    The leader's process id stays taken until it is reaped, so the group that is killed is surely this one.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = code
    return code, usage.ru_utime + usage.ru_stime


async def _feed(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    """Write stdin as the program takes it; one that closes it early is in its right."""
    if process.stdin is None:
        return
    descriptor, loop = process.stdin.fileno(), asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    view = memoryview(data)
    try:
        while view:
            try:
                view = view[os.write(descriptor, view[:_CHUNK]) :]
            except BlockingIOError:
                ready = asyncio.Event()
                loop.add_writer(descriptor, ready.set)
                try:
                    await ready.wait()
                finally:
                    loop.remove_writer(descriptor)
    except OSError:
        pass
    process.stdin.close()


def _read_status(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""
    finally:
        os.close(descriptor)


def _ending(code: int, *, timed_out: bool, over: bool) -> tuple[Ending, int]:
    if over:
        return Ending.OUTPUT_LIMIT, signal.SIGKILL
    if timed_out:
        return Ending.TIMED_OUT, signal.SIGKILL
    if os.WIFSIGNALED(code):
        return Ending.SIGNALLED, os.WTERMSIG(code)
    return Ending.EXITED, os.WEXITSTATUS(code)


def _tree_cpu_seconds(root: int) -> float:
    """CPU time of a process and its living descendants: the kernel drops it from the accounts when they are killed."""
    used: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            used[int(name)] = sum(map(int, fields[11:15])) / _TICK
            children.setdefault(int(fields[1]), []).append(int(name))
    total, waiting = 0.0, [root]
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0.0)
        waiting += children.get(pid, [])
    return total
