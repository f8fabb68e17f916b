"""Fill the disk by many files, each within the limit on a file."""

import os
import time

MIB = 1 << 20

OUTSIDE_LOOKS = True


def prepare(arena):
    arena.limits = arena.limits.model_copy(update={"scratch_bytes": 8 * MIB})
    return {}


def attack(given, attempt):
    def write(number):
        with open(f"filler-{number}", "wb") as file:
            return file.write(b"x" * MIB)

    def write_unnamed():
        file = os.open(".", os.O_TMPFILE | os.O_RDWR)
        return os.write(file, b"x" * MIB)

    for number in range(48):
        attempt(f"file {number}", lambda number=number: write(number))
    for number in range(16):
        attempt(f"unnamed {number}", write_unnamed)
    time.sleep(1.5)
    attempt.ways = {"wrote": f"done: {len(attempt.ways)} files"}


def verdict(arena, result):
    written = sum(path.stat().st_blocks * 512 for path in arena.work.glob("filler-*"))
    kept = result.ending == "exited" and written > arena.limits.scratch_bytes
    return [f"{written >> 20} MiB were kept where {arena.limits.scratch_bytes >> 20} were allowed"] if kept else []


SILENT = True
