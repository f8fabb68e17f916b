"""Make or enter a namespace, where the kernel offers far more to attack: unshare, clone, clone3, setns."""

import contextlib
import ctypes
import os
import signal
import time

KINDS = {
    "user": 0x10000000,
    "mnt": 0x20000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x8000000,
    "uts": 0x4000000,
    "cgroup": 0x2000000,
}


def attack(given, attempt):
    children = []

    def unshared(flags):
        said, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            refused = attempt.libc.unshare(flags)
            os.write(tell, b"r" if refused else b"u")
            if refused:
                os._exit(0)
            if flags & KINDS["pid"]:
                os.fork()
            time.sleep(60)
            os._exit(0)
        children.append(pid)
        os.close(tell)
        if os.read(said, 1) != b"u":
            raise OSError("refused")

    def cloned(number, *arguments):
        pid = attempt.syscall(number, *arguments)
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        children.append(pid)

    for name, flag in KINDS.items():
        attempt(f"unshare {name}", lambda flag=flag: unshared(flag))
        attempt(f"unshare user and {name}", lambda flag=flag: unshared(flag | KINDS["user"]))
        attempt(f"clone {name}", lambda flag=flag: cloned(56, flag | signal.SIGCHLD, 0, 0, 0, 0))
        arguments = (ctypes.c_uint64 * 11)(flag, 0, 0, 0, signal.SIGCHLD)
        attempt(f"clone3 {name}", lambda arguments=arguments: cloned(435, arguments, 88))
    for pid in (1, os.getppid()):
        for name in KINDS:
            attempt(
                f"enter {name} of {pid}",
                lambda pid=pid, name=name: attempt.syscall(308, os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), 0),
            )
        attempt(f"enter {pid}", lambda pid=pid: attempt.syscall(308, os.pidfd_open(pid), KINDS["mnt"] | KINDS["pid"]))
    time.sleep(0.1)
    attempt.hold()
    for pid in children:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def meanwhile(arena):
    from ..watching import namespaces

    if arena.is_warm:
        return []
    seen = {}
    for pid in arena.tagged():
        for kind, name in namespaces(pid).items():
            seen.setdefault(kind, set()).add(name)
    return [f"{len(names)} {kind} namespaces where there was one" for kind, names in seen.items() if len(names) > 1]


def verdict(arena, result):
    """Children of a warm process have namespaces apart from its own, so there the attack's word has to do."""
    if not arena.is_warm:
        return []
    return [] if b'"done' not in result.stdout else ["a namespace was made or entered"]
