"""Read the host's sockets and routes by this process's own /proc/self/net."""

import os
import socket


def prepare(arena):
    folder = arena.host / arena.canary()
    folder.mkdir(mode=0o700)
    arena.listen(socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "s"))
    return {"pid": os.getpid()}


def attack(given, attempt):
    pid = os.getpid()
    folders = ["/proc/self", "/proc/thread-self", f"/proc/{pid}", f"/proc/self/task/{pid}", "/proc"]
    folders += [f"/proc/{other}" for other in (os.getppid(), given["pid"], 1)]
    for folder in folders:
        attempt(folder, attempt.read, f"{folder}/net/unix")

    def below():
        here = os.open("/proc/self", os.O_PATH)
        return os.read(os.open("net/unix", os.O_RDONLY, dir_fd=here), 1 << 20)

    attempt("from a descriptor", below)
