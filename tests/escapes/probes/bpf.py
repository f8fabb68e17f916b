"""Load a program or a map into the kernel by bpf."""

import ctypes


def attack(given, attempt):
    attempt("plain", lambda: attempt.syscall(321, 0, (ctypes.c_uint32 * 32)(2, 4, 4, 1), 128))
    attempt("program", lambda: attempt.syscall(321, 5, (ctypes.c_uint32 * 32)(1, 1), 128))
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    return sorted({f"{each.target} is open" for each in held(arena.tagged()) if "bpf" in each.target})


def verdict(arena, result):
    return []
