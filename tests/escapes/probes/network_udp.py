"""Send datagrams to a service of the host."""

import socket


def prepare(arena):
    return {"port": arena.listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)).address[1]}


def attack(given, attempt):
    def send(family, address, protocol=0):
        with socket.socket(family, socket.SOCK_DGRAM, protocol) as s:
            return s.sendto(b"hello", (address, given["port"]))

    def send_connected():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("127.0.0.1", given["port"]))
            return s.send(b"hello")

    for address in ("127.0.0.1", "127.255.255.255", "0.0.0.0"):
        attempt(address, lambda address=address: send(socket.AF_INET, address))
    attempt("mapped", lambda: send(socket.AF_INET6, "::ffff:127.0.0.1"))
    attempt("connected", send_connected)
    attempt("udp lite", lambda: send(socket.AF_INET, "127.0.0.1", 136))


def verdict(arena, result):
    import time

    time.sleep(0.02)
    return arena.reached()
