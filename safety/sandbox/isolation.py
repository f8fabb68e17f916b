"""How a command is wrapped: which paths it may see, and the argument vector that confines it.

Two sets of layers are each enough alone: bubblewrap, and Landlock with seccomp, which needs nothing but the kernel.
Where both are there they are stacked. Every wrapped command passes through `launcher.py`.
"""

import ctypes
import os
import platform
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path

from ...core import ConfigurationError, SandboxUnavailable
from . import forwarder as _forwarder  # noqa: F401  # pyright: ignore[reportUnusedImport]
from . import launcher as _launcher  # noqa: F401  # pyright: ignore[reportUnusedImport]
from .protocol import Command, Layer, Mount
from .seccomp import assemble
from .users import GROUP, DedicatedUser, closed_to_others

LANDLOCK_ALONE = 6
"""The first version that keeps signals inside (Linux 6.12): without namespaces nothing else does."""
LANDLOCK_STACKED = 3
"""The first version that guards truncation (Linux 6.2): enough inside namespaces."""
_LANDLOCK_KNOWN = 7

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_ETC = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime")
_CPU = "/sys/devices/system/cpu"
_OF_ITSELF = (
    "auxv", "cmdline", "comm", "environ", "fd", "fdinfo", "io", "limits", "maps", "oom_score_adj", "smaps",
    "smaps_rollup", "stat", "statm", "status", "wchan",
)  # fmt: skip
"""What a program may read of itself without namespaces; the rest of /proc/self tells of the host's network, mounts and
groups."""
_PROC = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    *(f"/proc/self/{name}" for name in _OF_ITSELF),
)
_PROC_OF_THE_KERNEL = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PACKAGE = Path(__file__).resolve().parents[2]
_LAUNCH = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import launcher; launcher.main()"
"""Imported, and once by this process too, rather than run as a script: cached byte code saves 4 ms a run."""


class Isolation(StrEnum):
    """A set of layers that a sandbox is built from."""

    BUBBLEWRAP = "bubblewrap"
    """Namespaces, with Landlock stacked inside where the kernel has it, and seccomp."""
    LANDLOCK = "landlock"
    """Landlock and seccomp."""
    NONE = "none"
    """Process group, empty environment, closed descriptors and rlimits alone: no sandbox, and never chosen unasked."""


_BASE = frozenset({Layer.PROCESS_GROUP, Layer.EMPTY_ENVIRONMENT, Layer.CLOSED_DESCRIPTORS, Layer.RLIMITS, Layer.WATCH})


def layers_of(isolation: Isolation) -> frozenset[Layer]:
    """The layers that a set consists of on this machine, whoever the program runs as and whatever bounds it."""
    if isolation is Isolation.NONE:
        return _BASE
    found = _BASE | {Layer.SECCOMP}
    if landlock_abi() >= LANDLOCK_STACKED:
        found |= {Layer.LANDLOCK}
    if isolation is Isolation.BUBBLEWRAP:
        found |= {Layer.NAMESPACES}
    return found


@cache
def landlock_abi() -> int:
    """Version of Landlock's interface in the running kernel; 0 where there is none."""
    if platform.machine() != "x86_64":
        return 0
    version: int = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)
    return max(0, min(version, _LANDLOCK_KNOWN))


@cache
def bubblewrap() -> str | None:
    """Path of the bwrap program, or none."""
    return shutil.which("bwrap")


def environment(command: Command) -> dict[str, str]:
    """What the program gets: a minimal environment of its own under what the command names."""
    work = str(command.work)
    programs = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": programs, "HOME": work, "TMPDIR": work, "USER": "sandbox", "LANG": "C.UTF-8", **command.env}


@cache
def can_disable_user_namespaces() -> bool:
    """Whether this bubblewrap can forbid further user namespaces (0.8.0 and later)."""
    path = bubblewrap()
    shown = subprocess.run([path, "--help"], capture_output=True, check=False).stdout if path else b""
    return b"--disable-userns" in shown


@cache
def can_mount() -> bool:
    """Whether this process holds the capability (CAP_SYS_ADMIN) that mounts need."""
    with open("/proc/self/status") as file:
        held = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return bool(held & 1 << 21)


def unreachable(command: Command, isolation: Isolation, user: DedicatedUser) -> list[Path]:
    """Folders that keep a dedicated user from the command's paths, and that can't be covered here."""
    if isolation is Isolation.BUBBLEWRAP or can_mount():
        return []
    return _closed(command, user)


def check_paths(command: Command) -> None:
    """Refuse a command whose paths depend on where Pawl runs, or that may write wherever a link leads.

    Raises:
        ConfigurationError: one is relative, or a writable one goes through a link.
    """
    for path in (command.work, *(mount.path for mount in command.mounts)):
        if not path.is_absolute():
            raise ConfigurationError(f"The sandbox was given the relative path {path}: expected absolute paths only.")
    for path in (command.work, *(mount.path for mount in command.mounts if mount.writable)):
        if os.path.realpath(path) != str(path):  # an earlier run may have put a link where it could write
            raise ConfigurationError(
                f"The sandbox was to let a program write to {path}, which leads to {os.path.realpath(path)}: expected "
                "a path without links. Resolve it where the trusted side makes it."
            )


def wrap(
    command: Command,
    isolation: Isolation,
    status: int,
    *,
    user: DedicatedUser | None = None,
    groups: Sequence[int] = (),
) -> list[str]:
    """The argument vector that runs a command under a set of layers.

    Args:
        command: the program; its work folder exists.
        isolation: the set of layers.
        status: descriptor, inherited by the launcher, that says `ok` once the program is confined, and how it ended.
        user: whom the program runs as; Pawl's own user if none.
        groups: descriptors, inherited by the launcher, of the control groups that the program joins.

    Raises:
        ConfigurationError: a path is relative, more than one socket is mounted, or one that has a port isn't.
        SandboxUnavailable: the command asks for a loopback port, or for TCP of its own, where there is no network
            namespace.
    """
    check_paths(command)
    if command.loopback is not None and isolation is not Isolation.BUBBLEWRAP:
        raise SandboxUnavailable(
            f"The program asks for a port of its own, 127.0.0.1:{command.loopback.port}, but the {isolation} sandbox "
            "has no network namespace, so that the port would be the host's. Install bubblewrap (apt install "
            "bubblewrap), or let the program use the Unix socket."
        )
    if command.own_tcp and isolation is not Isolation.BUBBLEWRAP:
        raise SandboxUnavailable(
            f"The program's processes talk to each other by TCP, but the {isolation} sandbox has no network namespace, "
            "so that they would do so on the host's loopback. Install bubblewrap (apt install bubblewrap), or run it "
            "as a single process."
        )
    if command.loopback is not None and all(mount.path != command.loopback.socket for mount in command.mounts):
        raise ConfigurationError(
            f"The socket {command.loopback.socket} has a port inside: expected it among the mounts."
        )
    argv = [_python(), "-I", "-S", "-c", _LAUNCH, f"status={status}", f"cwd={command.work}"]
    argv += _rlimits(command, isolation, user)
    argv += [f"cgroup={descriptor}" for descriptor in groups]
    if user is not None:
        argv += [f"user={user.id}:{GROUP}"]
    program = [*command.argv]
    if command.nested is not None:
        program += _confinement(command.model_copy(update={"limits": command.nested}), isolation, user)
    if isolation is Isolation.BUBBLEWRAP:
        argv += _confined_by_namespaces(command)
        return [*_namespaces(command, user), "--", *argv, "--", *program]
    argv += [f"parent={os.getpid()}"]
    if isolation is Isolation.LANDLOCK:
        argv += ["scope=1", *_confined_by_landlock(command)]
        if user is not None:
            argv += [f"cover={path}" for path in _closed(command, user)]
    return [*argv, "--", *program]


def _confinement(command: Command, isolation: Isolation, user: DedicatedUser | None) -> list[str]:
    """The launcher's options for a child that a warm process forks, which are those of a run of its own."""
    if isolation is Isolation.NONE:
        raise ConfigurationError("A warm process was to run without a sandbox: expected bubblewrap or Landlock.")
    child = command.model_copy(update={"nested": None})
    how = _confined_by_namespaces(child) if isolation is Isolation.BUBBLEWRAP else _confined_by_landlock(child)
    limits = command.limits
    bounds = [
        f"seconds={limits.wall_seconds}",
        f"memory={limits.total_memory_bytes}",
        f"scratch={limits.scratch_bytes}",
    ]
    if isolation is Isolation.LANDLOCK and user is not None:  # the kernel counts the warm process and all children
        command = command.model_copy(update={"limits": limits.model_copy(update={"processes": limits.processes + 8})})
    return [f"isolation={isolation}", *bounds, *_rlimits(command, isolation, user), *how]


def _confined_by_namespaces(command: Command) -> list[str]:
    if command.nested is not None:  # Landlock would refuse every mount, also those that hide one child from another
        covered = [f"uncover={path}" for path in _PROC_OF_THE_KERNEL]
        return [f"filter={assemble(shared=False, connect=False, nested=True).hex()}", *covered]
    loopback = command.loopback
    own = command.own_tcp
    program = assemble(shared=False, connect=False, loopback=loopback is not None or own, interfaces=own)
    forward = [f"forward={loopback.port}:{loopback.socket}"] if loopback is not None else []
    forward += ["tcp=1"] if own else []
    return ["drop=1", f"filter={program.hex()}", *forward, *_landlock(command, extra=("/proc", _CPU))]


def _confined_by_landlock(command: Command) -> list[str]:
    sockets = [mount.path for mount in command.mounts if _is(stat.S_ISSOCK, mount.path)]
    if len(sockets) > 1:
        raise ConfigurationError(f"A sandbox can reach one socket, but {len(sockets)} are mounted.")
    program = assemble(shared=True, connect=bool(sockets))
    options = ["drop=1", f"filter={program.hex()}", *(f"connect={path}" for path in sockets)]
    processes = ("/proc",) if command.nested is not None else _PROC
    return [*options, *_landlock(command, extra=(*processes, _CPU)), "list=/proc/self/task"]


@cache
def _python() -> str:
    """The interpreter itself rather than a virtual environment's link to it."""
    return os.path.realpath(sys.executable)


@cache
def _readable() -> tuple[str, ...]:
    """The system's programs and libraries, the running Python's environment, and Pawl's own code; never its root.

    The root of a checkout may hold a home, a key file, or version control.
    """
    python = {sys.prefix, sys.base_prefix, os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix)}
    entries = [entry for entry in sorted(_PACKAGE.iterdir()) if entry.is_dir() and (entry / "__init__.py").exists()]
    return (*_SYSTEM, *_ETC, *sorted(python), str(_PACKAGE / "__init__.py"), *map(str, entries))


def _landlock(command: Command, extra: tuple[str, ...]) -> list[str]:
    if landlock_abi() < LANDLOCK_STACKED:
        return []
    # An import looks its package's folder up by listing it; names below it show, contents don't.
    rules = [f"landlock={landlock_abi()}", f"list={_PACKAGE}", f"write={command.work}"]
    rules += [f"read={path}" for path in (*_readable(), *extra, command.work)]
    rules += [f"device={path}" for path in _DEVICES]
    for mount in command.mounts:
        rules.append(f"read={mount.path}")
        if mount.writable:
            rules.append(f"{'device' if _is(stat.S_ISCHR, mount.path) else 'write'}={mount.path}")
    return rules


def _closed(command: Command, user: DedicatedUser) -> list[Path]:
    seen = [mount.path for mount in command.mounts if not _is(stat.S_ISSOCK, mount.path)]
    found = {*_closed_above_readable(), *closed_to_others([command.work, *seen], user.id)}
    return sorted(found, key=lambda path: len(path.parts))


@cache
def _closed_above_readable() -> tuple[Path, ...]:
    return tuple(closed_to_others(map(Path, _readable()), -1))


def _namespaces(command: Command, user: DedicatedUser | None) -> list[str]:
    """Bubblewrap's own arguments: every namespace, no capability, a root with nothing but what is readable.

    With a dedicated user the mounts are made by root, who reaches every path, and the launcher, which is left what a
    change of user takes, changes to that user first of all.
    """
    arguments = [str(bubblewrap()), "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if user is not None:
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            arguments += ["--cap-add", capability]
    else:
        forbid = command.nested is None and can_disable_user_namespaces()
        arguments += ["--unshare-user", *(["--disable-userns"] if forbid else [])]
    arguments += ["--proc", "/proc", "--tmpfs", "/tmp", "--hostname", "sandbox"]  # noqa: S108
    arguments += ["--dev", "/dev"]
    if command.nested is not None and os.getuid() == 0:  # for what the launcher uncovers, and to map root's id again
        arguments += ["--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETFCAP"]
    arguments += ["--as-pid-1"]  # the launcher hides its descriptors; bubblewrap's own first process doesn't
    if user is None and command.nested is None:  # root's files, which a dedicated user can't write anyway
        for path in filter(os.path.exists, _PROC_OF_THE_KERNEL):
            arguments += ["--ro-bind", path, path]
    mounts = (*command.mounts, Mount(path=command.work, writable=True))
    if command.own_tcp:  # gloo asks for PCI devices: it takes a folder that isn't there, not one that it may not enter
        arguments += _parents([Path(_CPU)])
    arguments += [*_bind_readable(), *_parents(mount.path for mount in mounts)]
    for mount in sorted(mounts, key=lambda mount: len(mount.path.parts)):
        device = _is(stat.S_ISCHR, mount.path)
        bind = "--dev-bind" if device else "--bind" if mount.writable else "--ro-bind"
        arguments += [bind, str(mount.path), str(mount.path)]
    for path in ("/tmp", "/dev", "/"):  # noqa: S108
        arguments += ["--remount-ro", path]
    return [*arguments, "--chdir", "/"]


@cache
def _bind_readable() -> tuple[str, ...]:
    arguments = _parents(map(Path, _readable()))
    for path in (*_readable(), _CPU):
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            arguments += ["--ro-bind", path, path]
    return tuple(arguments)


def _parents(paths: Iterable[Path]) -> list[str]:
    """Makes the folders above these paths, outermost first: those that root would make unasked are closed to others."""
    arguments: list[str] = []
    found = {parent for path in paths for parent in path.parents if parent != Path("/") and not parent.is_symlink()}
    for parent in sorted(found, key=lambda path: len(path.parts)):
        arguments += ["--perms", "0755", "--dir", str(parent)]
    return arguments


def _rlimits(command: Command, isolation: Isolation, user: DedicatedUser | None) -> list[str]:
    limits = command.limits
    values = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: 512,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: limits.total_memory_bytes,
    }
    if limits.memory_bytes:
        values[resource.RLIMIT_AS] = limits.memory_bytes
    if user is not None:
        values[resource.RLIMIT_NPROC] = limits.processes + 1  # the launcher
    elif os.getuid() != 0:  # the kernel doesn't count processes of root
        shared = isolation is not Isolation.BUBBLEWRAP
        values[resource.RLIMIT_NPROC] = limits.processes + (_tasks_of_user() if shared else 0)
    return [f"rlimit={number}:{value}" for number, value in sorted(values.items())]


def _tasks_of_user() -> int:
    """Threads of this user now: without a user namespace the kernel counts them together with the program's."""
    count, user = 0, os.getuid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found = os.stat(f"/proc/{name}/task")
            except OSError:
                continue
            count += found.st_nlink - 2 if found.st_uid == user else 0
    return count


def _is(kind: object, path: Path) -> bool:
    try:
        return bool(kind(path.stat().st_mode))  # type: ignore[operator]
    except OSError:
        return False
