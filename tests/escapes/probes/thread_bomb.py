"""Start threads without end, which count as processes do."""

import _thread
import time


def attack(given, attempt):
    _thread.stack_size(64 << 10)
    started = 0
    for _ in range(300):
        try:
            _thread.start_new_thread(time.sleep, (60,))
            started += 1
        except RuntimeError:
            break
    attempt("threads", lambda: started)
    attempt.hold()


def meanwhile(arena):
    from ..watching import status

    count = sum(int(status(pid, "Threads") or 0) for pid in arena.tagged())
    limit = arena.limits.processes
    slack = 12 if arena.is_warm else 2  # a warm process is counted with its child
    return [f"{count} threads were alive where {limit} were allowed"] if count > limit + slack else []


def verdict(arena, result):
    return []
