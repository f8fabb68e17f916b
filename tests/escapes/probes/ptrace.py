"""Attach to a process of the host by ptrace, and read and write its memory; steal its descriptor by pidfd_getfd."""

import ctypes
import os

ATTACH, SEIZE, PEEK, POKE, DETACH = 16, 0x4206, 2, 5, 17


def prepare(arena):
    victim = arena.victim()
    return {"pid": victim.pid, "secret": victim.secret_at, "flag": victim.flag_at, "descriptor": victim.descriptor}


def attack(given, attempt):
    pid = given["pid"]

    def peek():
        words = []
        for place in range(0, 40, 8):
            word = ctypes.c_long()  # the raw call stores what it read
            attempt.syscall(101, PEEK, pid, given["secret"] + place, ctypes.byref(word))
            words.append(bytes(word))
        return b"".join(words)

    def attach():
        attempt.syscall(101, ATTACH, pid, 0, 0)
        os.waitpid(pid, 0x40000000)  # __WALL
        try:
            word = int.from_bytes(b"written\0", "little")
            attempt.syscall(101, POKE, pid, given["flag"], word)
            return peek()
        finally:
            attempt.syscall(101, DETACH, pid, 0, 0)

    def steal():
        file = attempt.syscall(438, os.pidfd_open(pid), given["descriptor"], 0)
        return os.pread(file, 100, 0)

    attempt("seize", lambda: attempt.syscall(101, SEIZE, pid, 0, 0) and None)
    attempt("attach", attach)
    attempt("descriptor", steal)
    attempt("descriptor by /proc", lambda: attempt.read(f"/proc/{pid}/fd/{given['descriptor']}"))
    attempt("compare", lambda: attempt.syscall(312, os.getpid(), pid, 2, 0, 0))


def verdict(arena, result):
    return arena.leaked(result) + arena.victim_process.touched()
