"""Get further than one's own port by the network that a program is given to reach its model by."""

import fcntl
import socket
import struct
import tempfile
from pathlib import Path

OUTSIDE_LOOKS = True


def prepare(arena):
    from pawl.safety.sandbox import Isolation, Loopback, Mount

    given = {"port": arena.listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)).address[1]}
    given["udp"] = arena.listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)).address[1]
    given["other"] = str(arena.host / "other.sock")
    arena.listen(socket.AF_UNIX, socket.SOCK_STREAM, given["other"])
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    granted = folder / "s"
    listener = arena.listen(socket.AF_UNIX, socket.SOCK_STREAM, str(granted))
    arena.listeners.remove(listener)  # this one is there to be reached
    arena.stack.callback(folder.rmdir)
    arena.stack.callback(granted.unlink)
    if getattr(arena.sandbox, "isolation", None) is Isolation.BUBBLEWRAP:
        arena.mounts.append(Mount(path=granted))
        arena.memory["loopback"] = Loopback(socket=granted, port=8000)
    return given


def attack(given, attempt):
    def connect(family, address, port):
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(0.5)
            s.connect((address, port))
            s.sendall(b"hello")
            return s.recv(16)

    def up():
        """Bring an interface of one's own up, or add an address."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            return fcntl.ioctl(s, 0x8914, struct.pack("16sH14s", b"lo", 0x1043, b""))

    attempt("granted", connect, socket.AF_INET, "127.0.0.1", 8000)
    far = ("10.0.2.2", "169.254.169.254", "192.168.0.1", "1.1.1.1") if given["guarded"] else ()
    for address in ("127.0.0.1", "127.0.0.2", "0.0.0.0", *far):
        attempt(f"{address}", connect, socket.AF_INET, address, given["port"])
    for port in (22, 53, 80, 443, 5432, 8080):
        attempt(f"port {port}", connect, socket.AF_INET, "127.0.0.1", port) if given["guarded"] else None
    attempt("::1", connect, socket.AF_INET6, "::1", given["port"])
    attempt(
        "udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("127.0.0.1", given["udp"]))
    )
    attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
    attempt("mptcp", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
    attempt("interface", up) if given["guarded"] else None
    attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect(given["other"]))
    attempt("own listener", lambda: socket.create_server(("127.0.0.1", 0)).getsockname())


def verdict(arena, result):
    import time

    time.sleep(0.02)
    return arena.reached()
