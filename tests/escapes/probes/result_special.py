"""Put in the result's place what holds its reader up or never ends: a pipe, a socket, a device, a folder."""

import contextlib
import os
import socket
import threading

OUTSIDE_LOOKS = True


def attack(given, attempt):
    attempt("pipe", lambda: os.mkfifo("pipe"))
    attempt("socket", lambda: socket.socket(socket.AF_UNIX).bind("socket"))
    attempt("folder", lambda: os.mkdir("folder"))
    attempt("endless", lambda: os.symlink("/dev/zero", "endless"))
    attempt("device", lambda: os.mknod("device", 0o20666, os.makedev(1, 5)))
    attempt("loop", lambda: os.symlink("loop", "loop"))


def verdict(arena, result):
    return [fact for name in ("pipe", "socket", "folder", "endless", "device", "loop") for fact in tried(arena, name)]


def tried(arena, name):
    from pawl.safety.sandbox import read_result

    taken = []

    def read():
        if arena.guarded:
            taken.append(read_result(arena.work, name, 1 << 20))
            return
        with contextlib.suppress(OSError), open(arena.work / name, "rb") as file:
            taken.append(file.read(1 << 20))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(1.0)
    if reader.is_alive():
        os.close(os.open(arena.work / name, os.O_RDWR | os.O_NONBLOCK))  # let it go
        return [f"{name} held its reader up"]
    return [f"{name} was taken for a file"] if taken and taken[0] is not None else []
