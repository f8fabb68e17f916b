"""Pass a word from one run to another that runs beside it or after it: by memory, folders, sockets, locks, queues."""

import ctypes
import json
import os
import socket
import sys
from pathlib import Path

FOLDERS = ("/dev/shm", "/tmp", "/var/tmp", "/dev/mqueue", "/run", "/run/lock", "/dev", "/var/lock")
KEY = 0x50415731
IPC_CREAT, MQ = 0o1000, b"/pawl-escape"

OUTSIDE_LOOKS = True


def prepare(arena):
    (arena.host / "scaffold").mkdir(mode=0o755)
    from pawl.safety.sandbox import Mount

    arena.mounts.append(Mount(path=arena.host / "scaffold"))
    arena.memory["given"] = {
        "name": f"escape-{arena.tag}",
        "scaffold": str(arena.host / "scaffold"),
        "word": arena.canary(),
    }
    other = arena.work.parent / "other"
    other.mkdir(mode=0o700)
    for folder in FOLDERS:
        arena.stack.callback(Path(folder, f"escape-{arena.tag}").unlink, missing_ok=True)
    return arena.memory["given"] | {"other": str(other)}


def attack(given, attempt):
    name, word = given["name"], given.get("word", "").encode()
    folders = [*FOLDERS, given["scaffold"], *([given["other"]] if "other" in given else [])]
    listener = None
    if "word" in given:

        def leave(path):
            with open(path, "wb") as file:
                file.write(word)
            os.chmod(path, 0o666)

        def bind():
            nonlocal listener
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"\0{name}")
            listener.listen(8)

        for folder in folders:
            attempt(folder, leave, f"{folder}/{name}")
        attempt("shared memory", lambda: write_shared(attempt, word))
        attempt("queue", lambda: attempt.syscall(68, KEY, IPC_CREAT | 0o666))
        attempt("named queue", lambda: attempt.syscall(240, MQ[1:], os.O_CREAT | os.O_RDWR, 0o666, None))
        attempt("name", bind)
        attempt("title", lambda: Path("/proc/self/comm").write_bytes(word[:15]))
        attempt("process", lambda: os.spawnv(os.P_NOWAIT, "/bin/sleep", [given["word"], "20"]))
        attempt.ways = {way: said.replace(given["word"], "the word") for way, said in attempt.ways.items()}
        attempt.hold()
        return
    for folder in folders:
        attempt(folder, attempt.read, f"{folder}/{name}")
    attempt("shared memory", lambda: read_shared(attempt))
    attempt("name", lambda: socket.socket(socket.AF_UNIX).connect(f"\0{name}"))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        attempt(f"process {pid}", attempt.read, f"/proc/{pid}/cmdline")
    attempt.ways = {way: said for way, said in attempt.ways.items() if "canary" in said} | {"looked": "done"}


def write_shared(attempt, word):
    attempt.libc.shmat.restype = ctypes.c_void_p
    number = attempt.syscall(29, KEY, 4096, IPC_CREAT | 0o666)
    ctypes.memmove(attempt.libc.shmat(number, None, 0), word, len(word))


def read_shared(attempt):
    attempt.libc.shmat.restype = ctypes.c_void_p
    number = attempt.syscall(29, KEY, 4096, 0)
    try:
        return ctypes.string_at(attempt.libc.shmat(number, None, 0), 64)
    finally:
        attempt.syscall(31, number, 0, None)


def meanwhile(arena):
    import asyncio

    return asyncio.run(second(arena, "beside it"))


async def verdict(arena, result):
    return await second(arena, "after it")


async def second(arena, when):
    from pawl.safety.sandbox import Mount

    from ..arena import HERE

    work = arena.work.parent / f"other-{when.split()[0]}"
    work.mkdir(mode=0o700)
    given = {name: value for name, value in arena.memory["given"].items() if name != "word"}
    told = json.dumps(given | {"work": str(work), "guarded": arena.guarded})
    command = arena.command(sys.executable, "-S", str(HERE / "inside.py"), __file__, told)
    mounts = [Mount(path=Path(path)) for path in (given["scaffold"], __file__, str(HERE / "inside.py"))]
    done = await arena.sandbox.run(command.model_copy(update={"work": work, "mounts": tuple(mounts)}))
    assert b"ways" in done.stdout, done
    return [f"a word passed to the run {when}"] if any(word.encode() in done.stdout for word in arena.canaries) else []
