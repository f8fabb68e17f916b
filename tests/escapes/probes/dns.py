"""Carry data out in a name that is to be resolved."""

import ctypes
import socket
import struct


def prepare(arena):
    listener = arena.listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    services = ["/run/systemd/resolve/io.systemd.Resolve", "/var/run/nscd/socket"]
    return {"port": listener.address[1], "services": services}


def attack(given, attempt):
    name = b"\x05hello\x07example\0"
    query = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1)

    def ask():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            return s.sendto(query, ("127.0.0.1", given["port"]))

    def service(path):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect(path)

    attempt("query", ask)
    if given["guarded"]:  # outside these would go to the network at hand, and may take long
        attempt("resolver", lambda: socket.getaddrinfo("hello.example.invalid", 80))
        attempt("by address", lambda: socket.gethostbyaddr("127.0.0.1"))
        library = ctypes.CDLL("libresolv.so.2")
        resolve = getattr(library, "res_query", None) or library["__res_query"]
        attempt(
            "library", lambda: check(resolve(b"hello.example.invalid", 1, 1, ctypes.create_string_buffer(512), 512))
        )
    for path in given["services"]:
        attempt(path, lambda path=path: service(path))


def check(result):
    if result < 0:
        raise OSError("refused")
    return result


def verdict(arena, result):
    import time

    time.sleep(0.02)
    return arena.reached()
