"""Inside the sandbox: a warm process, which imports and warms up once, then forks one confined child for each request.

Run by `warm.py` as `python -I -B -c "..." MODULE SOCKET [ARGUMENT ...] KEY=VALUE ...`. MODULE has `warm_up(*arguments)`
and `answer(request, blob, scratch)`, and is Pawl's own; the options behind are the launcher's, for the children, and

| key | meaning |
|---|---|
| isolation=NAME | `bubblewrap`: each child gets namespaces; `landlock`: each gets a Landlock domain and a supervisor |
| seconds=FLOAT | wall clock of one request |
| memory=BYTES | what all of a child's processes may hold together |
| scratch=BYTES | what a child may write |

The warm process never sees a request: for each, the parent hands it a descriptor to answer on, which only the child
reads, once it is confined, and one on which is told how the child ended. What was started for a request has ended, and
its scratch is gone, before that is told. It imports no package of Pawl, holds no secret, and has a single thread.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import launcher
import trees

_NR_MOUNT, _NR_UNSHARE, _NR_SETNS = 165, 272, 308
_NEW_MOUNTS, _NEW_NAMES, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NETWORK = (
    0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXECUTE, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
_PLAIN = _NO_SUID | _NO_DEVICES | _NO_EXECUTE
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_PROC_OF_THE_KERNEL = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus")
_FILES = 16_384
"""Files that a child's scratch may hold."""
_LOOK_SECONDS = 0.25
"""How often what running children hold is looked at."""
_REAP_SECONDS = 0.02
"""How often strays are reaped while a namespace is being emptied: it is not empty while one is left."""
_WAIT_ALL = os.WNOHANG | 0x40000000
"""Never block, and take children of every kind (__WALL)."""
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = resource.getpagesize()


@dataclass
class Child:
    """One request at work."""

    pid: int
    """The child itself, or its supervisor."""
    ended: int
    """A descriptor that becomes readable when that process ends."""
    connection: int
    status: int
    deadline: float
    scratch: Path
    init: int = 0
    """The first process of its namespace, with whose end the kernel ends all others; 0 without namespaces."""
    empty: int = -1
    """A descriptor that becomes readable when `init` has ended, and with it the namespace."""
    how: str = ""
    """Why it is being ended; empty where it ends by itself."""
    code: int | None = None
    """Its wait status, once it was reaped."""
    cpu_seconds: float = 0.0
    """What the kernel counted of what was reaped, and what those had used whom nobody waited for."""


class Nursery:
    """Forks, watches and ends children."""

    def __init__(self, module: ModuleType, options: dict[str, list[str]], paths: list[tuple[str, str]]) -> None:
        self.module = module
        self.options = options
        self.paths = paths
        self.namespaces = options["isolation"][0] == "bubblewrap"
        self.seconds = float(options["seconds"][0])
        self.memory = int(options["memory"][0])
        self.scratch_bytes = int(options["scratch"][0])
        self.work = Path.cwd()
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.silence, self._unsaid = os.pipe2(os.O_CLOEXEC)  # what the first processes of namespaces wait for in vain
        self.children: list[Child] = []
        self.count = 0

    def serve(self, control: socket.socket) -> None:
        """Serve until the parent closes its end, or is gone."""
        poll = select.poll()
        poll.register(control, select.POLLIN)
        look = time.monotonic() + _LOOK_SECONDS
        while True:
            emptying = any(child.code is not None for child in self.children)
            wait = 1000 * (_REAP_SECONDS if emptying else _LOOK_SECONDS)
            found = dict(poll.poll(wait if self.children else None))
            wanted = found.pop(control.fileno(), None)  # last, since a new child's descriptors may take old numbers
            for child in self.children:
                if child.connection in found:
                    poll.unregister(child.connection)
                    self._end(child, "exited")
            for child in self._reap():
                for descriptor in (child.ended, child.empty, child.connection):
                    with contextlib.suppress(KeyError, ValueError):
                        poll.unregister(descriptor)
                self._finish(child)
            for child in self.children:
                if child.code is not None and child.ended in found:
                    poll.unregister(child.ended)
            if wanted is not None:
                handed = receive(control)
                if len(handed) != 2:
                    return
                child = self._start(*handed)
                if child is not None:
                    self.children.append(child)
                    poll.register(child.ended, select.POLLIN)
                    if child.init:
                        poll.register(child.empty, select.POLLIN)
                    poll.register(child.connection, 0)  # hung up once nobody waits for the answer any more
            now = time.monotonic()
            for child in self.children:
                if now > child.deadline:
                    self._end(child, "timed_out")
            if self.children and now > look:
                self._look()
                look = time.monotonic() + _LOOK_SECONDS

    def _start(self, connection: int, status: int) -> Child | None:
        self.count += 1
        scratch = self.work if self.namespaces else self.work / f"scratch-{self.count}"
        deadline = time.monotonic() + self.seconds
        try:
            if not self.namespaces:
                scratch.mkdir(mode=0o700)
            pid, init = self._fork()
        except OSError as error:  # too many processes, say: the next request may find room again
            os.write(status, f"no child could be forked: {error}".encode())
            os.close(connection)
            os.close(status)
            return None
        if pid == 0:
            self._grow(connection, status, scratch)
        empty = os.pidfd_open(init) if init else -1
        return Child(pid, os.pidfd_open(pid), connection, status, deadline, scratch, init, empty)

    def _fork(self) -> tuple[int, int]:
        """Fork; with namespaces, a child that is the second process of a new one.

        The first one does nothing: as the first, a program would be deaf to signals that it sends itself.
        """
        if not self.namespaces:
            return os.fork(), 0
        launcher.call("unshare", _NR_UNSHARE, _NEW_PIDS)
        init, pid = 0, -1
        try:
            init = os.posix_spawn("/bin/cat", ("cat",), {}, file_actions=[(os.POSIX_SPAWN_DUP2, self.silence, 0)])
            pid = os.fork()
        except OSError:
            if init:
                os.kill(init, signal.SIGKILL)
                os.waitpid(init, 0)
            raise
        finally:
            if pid:
                launcher.call("setns", _NR_SETNS, self.own_pids, _NEW_PIDS)
        return pid, init

    def _grow(self, connection: int, status: int, scratch: Path) -> None:
        """In the child: become confined, only then read the request, answer it, and leave; returns never."""
        code = 126
        try:
            close_all_but(connection, status)  # a neighbour's answer would not end while they are open here
            if self.namespaces:
                launcher.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                enter_namespaces(str(scratch), self.scratch_bytes)
            else:
                supervise(status, connection)
            with contextlib.suppress(OSError):  # where memory runs out, this is what ends
                Path("/proc/self/oom_score_adj").write_text("1000")
            quiet = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(quiet, descriptor)
            os.chdir(scratch)
            os.environ.update(HOME=str(scratch), TMPDIR=str(scratch))
            if "tempfile" in sys.modules:
                sys.modules["tempfile"].tempdir = None  # pyright: ignore[reportAttributeAccessIssue]
            work = str(self.work)
            paths = [(kind, str(scratch) if path == work else path) for kind, path in self.paths]
            launcher.confine(self._limited(), paths, {connection, status}, None)
            os.write(status, b"ok")
            os.close(status)
            code = 1
            answer(self.module, connection, scratch)
            code = 0
        except BaseException as error:
            if code == 126:
                os.write(status, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(code)

    def _limited(self) -> dict[str, list[str]]:
        """The launcher's options, with the bound on address space counted from what the imports hold."""
        held = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
        limits = [tuple(map(int, limit.split(":"))) for limit in self.options.get("rlimit", [])]
        found = [f"{n}:{value + held if n == resource.RLIMIT_AS else value}" for n, value in limits]
        return {**self.options, "rlimit": found}

    def _end(self, child: Child, how: str) -> None:
        """End a child early; why is told when it has."""
        if child.how or child.code is not None:
            return
        child.how = how
        if child.init:
            self._empty(child)
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(child.ended, signal.SIGTERM)

    def _empty(self, child: Child) -> None:
        """End everything in a child's namespace, and count what nobody will be told of."""
        below = _families()
        strays = _tree([child.pid, child.init], below) - {child.pid, child.init}
        child.cpu_seconds += sum(map(_used, strays))
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.empty, signal.SIGKILL)

    def _reap(self) -> list[Child]:
        """Reap whatever has ended, known or not, and return the children of which nothing is left."""
        gone: list[Child] = []
        while True:
            try:
                pid, code, used = os.wait4(-1, _WAIT_ALL)
            except ChildProcessError:
                return gone
            if pid == 0:
                return gone
            for child in [child for child in self.children if pid in (child.pid, child.init)]:
                if pid == child.pid:
                    child.code = code
                    child.cpu_seconds += used.ru_utime + used.ru_stime
                    if child.init and not child.how:
                        self._empty(child)
                else:
                    child.init = 0
                if child.code is not None and child.init == 0:
                    self.children.remove(child)
                    gone.append(child)

    def _finish(self, child: Child) -> None:
        words = f" {child.how or 'exited'}"
        if child.empty >= 0:
            words = f" {child.code} {child.cpu_seconds:.6f}{words}"
            os.close(child.empty)
        else:  # the supervisor has ended the rest, and told the rest
            trees.remove_tree(child.scratch)
        with contextlib.suppress(OSError):
            os.write(child.status, words.encode())
        for descriptor in (child.status, child.ended, child.connection):
            os.close(descriptor)

    def _look(self) -> None:
        """End children that hold more than they may."""
        below = _families()
        for child in [child for child in self.children if child.code is None]:
            if sum(map(_held, _tree([child.pid, child.init or child.pid], below))) > self.memory:
                self._end(child, "memory_limit")
            elif not self.namespaces and trees.written(child.scratch, self.scratch_bytes, _FILES) > self.scratch_bytes:
                self._end(child, "scratch_limit")


def enter_namespaces(scratch: str, scratch_bytes: int) -> None:
    """Give this process mounts, IPC, names, network and users of its own; a new /proc; and an empty scratch.

    The scratch covers the folder in which it lies, with all that the warm process keeps there. The user namespace
    comes last, so that no capability in it has a say over the mounts.
    """
    launcher.call("unshare", _NR_UNSHARE, _NEW_MOUNTS | _NEW_NAMES | _NEW_IPC | _NEW_NETWORK)
    _mount("proc", "/proc", "proc", _PLAIN)
    for path in filter(os.path.exists, _PROC_OF_THE_KERNEL):
        _mount(path, path, None, _BIND)
        _mount(None, path, None, _REMOUNT | _BIND | _READ_ONLY | _PLAIN)
    room = f"size={scratch_bytes},nr_inodes={_FILES},mode=0700"
    _mount("tmpfs", scratch, "tmpfs", _NO_SUID | _NO_DEVICES, room)
    _become_own_root(0)


def own_namespaces() -> None:
    """Go on as the first process of namespaces that belong to this one, as those of its children must.

    The process that called waits, and ends as this one does.
    """
    _become_own_root(_NEW_MOUNTS | _NEW_PIDS)
    pid = os.fork()
    if pid:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)
    launcher.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _mount("proc", "/proc", "proc", _PLAIN)


def _become_own_root(more: int) -> None:
    """Enter a user namespace in which this process has every capability, and the same ids as before."""
    user, group = os.getuid(), os.getgid()
    launcher.call("unshare", _NR_UNSHARE, _NEW_USER | more)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def supervise(status: int, connection: int) -> None:
    """Fork once more: the child returns, this process stays to end whatever the child starts, and never returns.

    Where there are no namespaces, the supervisor is in a Landlock domain that holds it and all that the child starts.
    """
    nursery = os.getppid()
    launcher.scope_signals(nursery)
    launcher.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: launcher.finish(status, True, signal.SIGKILL))
    launcher.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != nursery:
        os._exit(126)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        launcher.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    launcher.prctl(_PR_SET_DUMPABLE, 0)
    os.close(connection)
    launcher.finish(status, True, os.waitpid(child, 0)[1])


def receive(control: socket.socket) -> list[int]:
    """Descriptors that the parent passed, none of which a program that is executed inherits."""
    _, rights, _, _ = control.recvmsg(1, socket.CMSG_SPACE(8), socket.MSG_CMSG_CLOEXEC)
    data = b"".join(data for level, kind, data in rights if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS))
    return list(struct.unpack(f"{len(data) // 4}i", data))


def close_all_but(*keep: int) -> None:
    """Close every descriptor but standard ones and these."""
    start = 3
    for descriptor in sorted(keep):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, 1 << 20)


def answer(module: ModuleType, connection: int, scratch: Path) -> None:
    """Read the request, and write the answer: JSON and a blob, each after its length."""
    with socket.socket(fileno=connection) as peer:
        with peer.makefile("rb") as file:
            header, size = struct.unpack("<QQ", file.read(16))
            request, blob = json.loads(file.read(header)), file.read(size)
        found, outputs = module.answer(request, blob, scratch)
        text = json.dumps(found).encode()
        peer.sendall(struct.pack("<QQ", len(text), len(outputs)) + text)
        peer.sendall(outputs)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if word is None else ctypes.c_char_p(word.encode()) for word in (source, target, kind, data)]
    launcher.call(f"mount {target}", _NR_MOUNT, *words[:3], ctypes.c_ulong(flags), words[3])


def _families() -> dict[int, list[int]]:
    """Children of every process that can be seen, by the parent's id."""
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
                below.setdefault(parent, []).append(int(name))
    return below


def _tree(roots: list[int], below: dict[int, list[int]]) -> set[int]:
    found = list(roots)
    for pid in found:
        found += below.get(pid, [])
    return set(found)


def _used(pid: int) -> float:
    """CPU seconds of a process and those that it waited for."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK


def _held(pid: int) -> int:
    """Bytes of memory without a file behind it; a page that processes share is counted for each that maps it."""
    try:
        lines = Path("/proc", str(pid), "status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def listen(path: str) -> socket.socket:
    """Take the parent's connection, and be reachable no more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path + ".new")
        listener.listen(1)
        os.rename(path + ".new", path)  # it shows once it can be connected to
        listener.settimeout(60)
        control, _ = listener.accept()
        os.unlink(path)
    control.settimeout(None)
    return control


def main() -> None:
    """Read the command line, warm up, and serve."""
    start = next(number for number, word in enumerate(sys.argv) if word.startswith("isolation="))
    options, paths = launcher.read_options(sys.argv[start:])
    if options["isolation"][0] == "bubblewrap":
        own_namespaces()
    module: Any = importlib.import_module(sys.argv[1])
    module.warm_up(*sys.argv[3:start])
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise SystemExit(f"the warm-up left {threads} threads, and a fork copies one: it must not start any")
    gc.collect()
    gc.freeze()
    Nursery(module, options, paths).serve(listen(sys.argv[2]))
