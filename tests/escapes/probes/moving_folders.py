"""Fill the disk while folders are moved to and fro, so that who walks them comes up elsewhere and counts too little."""

import os
import signal
import time

MIB = 1 << 20

OUTSIDE_LOOKS = True
SILENT = True


def prepare(arena):
    arena.limits = arena.limits.model_copy(update={"scratch_bytes": 16 * MIB})
    return {}


def attack(given, attempt):
    for number in range(60):
        os.mkdir(f"d{number}")
    first, *_, one, two, three, four = (name for name in os.listdir(".") if name[0] == "d")
    children = []
    for here, there in ((one, two), (three, four)):
        os.mkdir(f"{here}/x")
        for number in range(300):
            os.mknod(f"{here}/x/{number}")
        pid = os.fork()
        if pid == 0:
            while True:
                os.rename(f"{here}/x", f"{there}/x")
                os.rename(f"{there}/x", f"{here}/x")
        children.append(pid)
    for number in range(96):
        with open(f"{first}/filler-{number}", "wb") as file:
            file.write(b"x" * MIB)
        time.sleep(0.03)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    attempt("wrote", lambda: number)


def verdict(arena, result):
    written = sum(path.stat().st_blocks * 512 for path in arena.work.glob("d*/filler-*")) >> 20
    return [f"{written} MiB were written where 16 were allowed"] if written > 64 else []
