"""Send packets past the kernel's transport layers: raw IP, Ethernet frames, netlink, virtual sockets."""

import socket
import struct


def prepare(arena):
    return {"port": arena.listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)).address[1]}


def attack(given, attempt):
    datagram = struct.pack("!HHHH", 4000, given["port"], 13, 0) + b"hello"
    packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")

    def raw():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
            return s.sendto(packet + datagram, ("127.0.0.1", 0))

    def raw_udp():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as s:
            return s.sendto(datagram, ("127.0.0.1", 0))

    def frame():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
            s.bind(("lo", 0x0800))
            return s.send(bytes(12) + b"\x08\0" + packet + datagram)

    attempt("raw", raw)
    attempt("raw udp", raw_udp)
    attempt("frame", frame)
    attempt("ping", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP))
    attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
    attempt("virtual", lambda: socket.socket(40, socket.SOCK_STREAM))
    attempt("bluetooth", lambda: socket.socket(31, socket.SOCK_RAW))
    attempt("crypto", lambda: socket.socket(38, socket.SOCK_SEQPACKET))
    attempt("sctp", lambda: socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, 132))
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    pids = arena.tagged()
    known = {f"socket:[{line.split()[6]}]" for pid in (*pids, "self") for line in unix_sockets(pid)}
    open_ones = {each.target for each in held(pids) if each.target.startswith("socket:")} - known
    return [f"{len(open_ones)} sockets of these kinds are open"] if open_ones else []


def unix_sockets(pid):
    try:
        with open(f"/proc/{pid}/net/unix") as file:
            return file.readlines()
    except OSError:
        return []


def verdict(arena, result):
    import time

    time.sleep(0.02)
    return arena.reached()
