"""Use a descriptor that the host left open: a secret file, a folder, a socket, inheritable as by a careless parent."""

import os
import socket
import stat

RUINS_ITS_ANSWER = True
"""In a warm sandbox, where the one socket that it finds is that for the answer."""


def prepare(arena):
    secret = arena.plant("open")
    listener = arena.listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    connection = socket.create_connection(listener.address)
    arena.stack.callback(connection.close)
    sources = [os.open(secret, os.O_RDONLY), os.open(arena.host, os.O_RDONLY | os.O_DIRECTORY)]
    for number, source in zip((93, 94, 95), [*sources, connection.fileno()], strict=True):
        os.dup2(source, number, inheritable=True)
        arena.stack.callback(os.close, number)
    for source in sources:
        os.close(source)
    return {}


def attack(given, attempt):
    for number in range(3, 1024):
        try:
            kind = os.fstat(number).st_mode
        except OSError:
            continue
        if stat.S_ISDIR(kind):
            attempt(f"folder {number}", lambda number=number: below(number))
        elif stat.S_ISSOCK(kind):
            attempt(f"socket {number}", lambda number=number: os.write(number, b"hello"))
        else:
            attempt(f"file {number}", lambda number=number: os.pread(number, 4096, 0))
    attempt("looked", lambda: sorted(os.listdir("/proc/self/fd")))


def below(number):
    file = os.open("open", os.O_RDONLY, dir_fd=number)
    return os.read(file, 4096)


def verdict(arena, result):
    said = [each for listener in arena.listeners for each in listener.reached if b"hello" in each]
    return arena.leaked(result) + (["a connection of the host was written to"] if said else [])
