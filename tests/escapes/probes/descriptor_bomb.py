"""Hold so many files open that the host runs out of them (here: twice what a program of this kind needs)."""

import contextlib
import os


def attack(given, attempt):
    kept = []

    def hold():
        while len(kept) < 2000:
            kept.append(os.open("/dev/null", os.O_RDONLY))

    import resource

    attempt("raise the limit", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)))
    attempt("hold", hold)
    attempt(f"held {len(kept)}", lambda: len(kept))
    del kept[-20:]
    for number in range(200, 220):
        with contextlib.suppress(OSError):
            os.close(number)
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    count = len(held(arena.tagged()))
    return [f"{count} files were held open"] if count > 1024 else []


def verdict(arena, result):
    return []
