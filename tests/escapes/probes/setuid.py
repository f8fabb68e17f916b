"""Gain rights by a setuid program: one that the host has, one that is given, one that is made."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

OUTSIDE_LOOKS = True


def prepare(arena):
    from pawl.safety.sandbox import Mount

    folder = arena.host / "tools"
    folder.mkdir(mode=0o755)
    if not arena.guarded:  # there the attack steps down from root first, and needs a way back in
        for path in (arena.host, arena.host.parent):
            path.chmod(0o755)
        arena.work.chmod(0o777)
    shutil.copy("/bin/sleep", folder / "sleep")
    (folder / "sleep").chmod(0o6755)
    arena.mounts.append(Mount(path=folder))
    return {"tool": str(folder / "sleep"), "own": os.getuid()}


def attack(given, attempt):
    children = []

    def start(*argv):
        children.append(subprocess.Popen(argv))

    if not given["guarded"] and os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)  # so that there is something to gain
    attempt("given", lambda: start(given["tool"], "60"))
    attempt("made", lambda: (shutil.copy("/bin/sleep", "mine") and os.chmod("mine", 0o6755)) or start("./mine", "60"))
    attempt("made at once", lambda: os.close(os.open("open", os.O_CREAT | os.O_WRONLY, 0o6755)))
    attempt("made as a node", lambda: os.mknod("node", 0o106755))
    attempt("user", lambda: os.setuid(given["own"]))
    attempt("user 0", lambda: os.setresuid(0, 0, 0))
    attempt("group 0", lambda: os.setresgid(0, 0, 0))
    attempt("groups", lambda: os.setgroups([0]))
    attempt("file rights", lambda: os.setxattr("mine", "security.capability", b"\1\0\0\2" + b"\xff" * 16))
    time.sleep(0.05)
    attempt.hold()
    for child in children:
        with contextlib.suppress(OSError):
            child.send_signal(signal.SIGKILL)


def meanwhile(arena):
    from ..watching import status

    found = []
    for pid in every(arena):
        real, effective, *_ = status(pid, "Uid").split() or ("", "")
        gained = int(status(pid, "CapEff") or "0", 16)
        if effective != real or gained:
            found.append(f"a program runs as user {effective} for user {real}, with rights {gained:x}")
    return sorted(set(found))


def every(arena):
    """A setuid program's environment is its owner's to read, so look for what the tagged ones started as well."""
    pids = set(arena.tagged())
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) in pids:
                    pids.add(int(name))
        except OSError:
            continue
    return pids


def verdict(arena, result):
    """A setuid program of Pawl's own user that others can reach would run for them as that user."""
    found = []
    for name in ("mine", "open", "node"):
        path = arena.work / name
        if arena.guarded and path.exists() and path.stat().st_mode & 0o6000 and path.stat().st_uid == os.getuid():
            open_to_others = all(parent.stat().st_mode & 0o001 for parent in path.parents)
            if open_to_others or os.getuid() == 0:
                found.append(f"{name} is a setuid program of user {os.getuid()}")
    return found
