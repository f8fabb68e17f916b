"""Use up the file system's inodes by empty files and folders, which take no bytes."""

import os
import time

OUTSIDE_LOOKS = True


def prepare(arena):
    arena.limits = arena.limits.model_copy(update={"scratch_bytes": 8 << 20})
    return {}


def attack(given, attempt):
    def fill(folder):
        os.mkdir(folder)
        for number in range(500):
            os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY))

    for number in range(8):
        attempt(f"folder {number}", lambda number=number: fill(f"f{number}"))
    time.sleep(1.5)


def verdict(arena, result):
    count = sum(len(list(folder.iterdir())) for folder in arena.work.glob("f*"))
    return [f"{count} empty files were kept"] if result.ending == "exited" and count > 3000 else []


SILENT = True
