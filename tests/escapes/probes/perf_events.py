"""Watch the processor by perf_event_open, through which other processes show."""

import ctypes

# A software clock of this process: type 1, size 120, config 0.
EVENT = (ctypes.c_uint32 * 30)(1, 120)


def attack(given, attempt):
    attempt("plain", lambda: attempt.syscall(298, EVENT, 0, -1, -1, 0))
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    return sorted({f"{each.target} is open" for each in held(arena.tagged()) if "perf_event" in each.target})


def verdict(arena, result):
    return []
