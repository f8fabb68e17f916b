"""Take page faults over by userfaultfd, which holds the kernel still in the midst of a copy."""

import os


def attack(given, attempt):
    attempt("plain", lambda: attempt.syscall(323, 1))
    attempt("without user mode only", lambda: attempt.syscall(323, 0))
    attempt("device", lambda: os.open("/dev/userfaultfd", os.O_RDWR))
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    return sorted({f"{each.target} is open" for each in held(arena.tagged()) if "userfaultfd" in each.target})


def verdict(arena, result):
    return []
