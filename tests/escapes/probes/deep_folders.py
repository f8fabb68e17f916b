"""Nest folders so deep that who counts or removes them fails, and hide files in the deepest."""

import os
import time
from contextlib import suppress

SCORED = True
MIB = 1 << 20


def attack(given, attempt):
    def dig(depth, name):
        for _ in range(depth):
            os.mkdir(name)
            os.chdir(name)

    def fill(count):
        for number in range(count):
            with open(f"filler-{number}", "wb") as file:
                file.write(b"x" * MIB)

    for depth, name in ((1500, "d"), (24, "x" * 250)):
        os.chdir(given["work"])
        attempt(f"dig {depth}", dig, depth, name)
        attempt(f"fill {depth}", fill, 4)
        attempt(f"close {depth}", os.chmod, ".", 0)
    attempt("closed", lambda: os.mkdir("closed", 0) or os.chdir(given["work"]))
    os.chdir(given["work"])
    attempt("answer", attempt.write, "output.json", "{}")
    time.sleep(0.6)


def verdict(arena, result):
    import shutil

    try:
        shutil.rmtree(arena.work, ignore_errors=True)
    except RecursionError:
        found = ["a harness that removes the folder runs out of stack"]
    else:
        found = ["a harness can't remove the folder"] if arena.work.exists() else []
    remove(arena.work)
    return found


def remove(folder):
    """Remove a tree however deep, for this probe's own sake."""
    import subprocess

    with suppress(OSError):
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)
