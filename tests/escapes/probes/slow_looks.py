"""Make a look at the folder slow by thousands of empty files, and fill the disk before the next one."""

import os
import time

MIB = 1 << 20

OUTSIDE_LOOKS = True
SILENT = True


def prepare(arena):
    arena.limits = arena.limits.model_copy(update={"scratch_bytes": 40 * MIB, "wall_seconds": 60, "cpu_seconds": 60})
    return {}


def attack(given, attempt):
    for folder in range(5):
        os.mkdir(f"e{folder}")
        for number in range(1000):
            os.mknod(f"e{folder}/{number}")
    time.sleep(0.6)
    for number in range(128):
        with open(f"filler-{number}", "wb") as file:
            file.write(b"x" * MIB)
        time.sleep(0.03)
    attempt("wrote", lambda: number)


def verdict(arena, result):
    written = sum(path.stat().st_blocks * 512 for path in arena.work.glob("filler-*")) >> 20
    return [f"{written} MiB were written where less than 20 were allowed"] if written > 64 else []
