"""Reach the Unix socket of another rollout, or of a service of the host, by its path and by every way around it."""

import os
import socket


def prepare(arena):
    stream, datagram = arena.host / "policy.sock", arena.host / "log.sock"
    arena.listen(socket.AF_UNIX, socket.SOCK_STREAM, str(stream))
    arena.listen(socket.AF_UNIX, socket.SOCK_DGRAM, str(datagram))
    for path in (stream, datagram):
        path.chmod(0o666)
    # Bound before the program starts, so that a link to it can be tried as well.
    (arena.work / "s").symlink_to(stream)
    return {"stream": str(stream), "datagram": str(datagram)}


def attack(given, attempt):
    def connect(path):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(1)
            s.connect(path)
            return s.sendall(b"hello")

    relative = os.path.relpath(given["stream"])
    for path in (
        given["stream"],
        relative,
        "s",
        f"/proc/self/root{given['stream']}",
        f"/proc/{os.getppid()}/root{given['stream']}",
    ):
        attempt(path, lambda path=path: connect(path))
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        attempt(
            f"datagram {kind}",
            lambda kind=kind: socket.socket(socket.AF_UNIX, kind).sendto(b"hello", given["datagram"]),
        )
        attempt(
            f"pair {kind}",
            lambda kind=kind: socket.socketpair(socket.AF_UNIX, kind)[0].sendto(b"hello", given["datagram"]),
        )
        attempt(
            f"message {kind}",
            lambda kind=kind: socket.socketpair(socket.AF_UNIX, kind)[0].sendmsg([b"hello"], [], 0, given["datagram"]),
        )
    for path in ("/run/docker.sock", "/var/run/dbus/system_bus_socket", "/dev/log", "/run/systemd/private"):
        attempt(path, lambda path=path: connect(path))


def verdict(arena, result):
    import time

    time.sleep(0.02)
    return arena.reached()
