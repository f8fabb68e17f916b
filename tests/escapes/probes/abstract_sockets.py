"""Reach sockets of the host that have no file, only a name: streams, datagrams, packets."""

import socket

KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)


def prepare(arena):
    return {"names": [arena.abstract(kind) for kind in KINDS]}


def attack(given, attempt):
    def connect(kind, name):
        with socket.socket(socket.AF_UNIX, kind) as s:
            s.settimeout(1)
            s.connect("\0" + name)
            return s.sendall(b"hello")

    def send(make, name):
        one = make()
        return one.sendto(b"hello", "\0" + name)

    for kind, name in zip(KINDS, given["names"], strict=True):
        attempt(f"connect {kind}", lambda kind=kind, name=name: connect(kind, name))
        attempt(f"send {kind}", lambda kind=kind, name=name: send(lambda: socket.socket(socket.AF_UNIX, kind), name))
        attempt(
            f"pair {kind}", lambda kind=kind, name=name: send(lambda: socket.socketpair(socket.AF_UNIX, kind)[0], name)
        )
    attempt("list", lambda: attempt.read("/proc/net/unix"))


def verdict(arena, result):
    import time

    time.sleep(0.02)
    return arena.reached()
