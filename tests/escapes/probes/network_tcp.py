"""Connect by TCP to a service of the host, over every loopback there is."""

import socket


def prepare(arena):
    one = arena.listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    given = {"port": one.address[1]}
    try:
        arena.listen(socket.AF_INET6, socket.SOCK_STREAM, ("::1", one.address[1]))
    except OSError:
        given["no IPv6"] = True
    return given


def attack(given, attempt):
    def connect(family, address):
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(1)
            s.connect((address, given["port"]))
            s.sendall(b"hello")
            return s.recv(16)

    def fast_open():
        with socket.socket() as s:
            s.settimeout(1)
            return s.sendto(b"hello", 0x20000000, ("127.0.0.1", given["port"]))

    def multipath():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as s:
            s.settimeout(1)
            s.connect(("127.0.0.1", given["port"]))
            return s.sendall(b"hello")

    far = ("10.0.2.2", "169.254.169.254") if given["guarded"] else ()
    for address in ("127.0.0.1", "127.1.2.3", "0.0.0.0", *far):
        attempt(address, lambda address=address: connect(socket.AF_INET, address))
    attempt("::1", lambda: connect(socket.AF_INET6, "::1"))
    attempt("mapped", lambda: connect(socket.AF_INET6, "::ffff:127.0.0.1"))
    attempt("fast open", fast_open)
    attempt("multipath", multipath)


def verdict(arena, result):
    return arena.reached()
