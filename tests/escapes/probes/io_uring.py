"""Set up an io_uring, whose requests no filter of system calls sees."""

import ctypes


def attack(given, attempt):
    attempt("plain", lambda: attempt.syscall(425, 4, ctypes.create_string_buffer(120)))
    attempt("x32", lambda: attempt.syscall(0x40000000 + 425, 4, ctypes.create_string_buffer(120)))
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    return sorted({f"{each.target} is open" for each in held(arena.tagged()) if "io_uring" in each.target})


def verdict(arena, result):
    return []
