"""Swap the result between a plain file and a link while it is read: between the look and the use."""

import os
import time

OUTSIDE_LOOKS = True


def prepare(arena):
    return {"secret": str(arena.plant("gold.json"))}


def attack(given, attempt):
    os.symlink(given["secret"], "link")
    os.mkdir("real")
    os.symlink(os.path.dirname(given["secret"]), "unreal")
    for path in ("plain", "real/gold.json"):
        with open(path, "w") as file:
            file.write("{}")
    open("holding", "w").close()
    until, swaps = time.monotonic() + 6, 0
    while not os.path.exists("release") and time.monotonic() < until:
        for one, other in (("link", "plain"), ("real", "unreal")):
            exchange(attempt, one, other)
        swaps += 1
    attempt("swapped", lambda: swaps)


def exchange(attempt, one, other):
    attempt.syscall(316, -100, one.encode(), -100, other.encode(), 2)  # renameat2, RENAME_EXCHANGE


def meanwhile(arena):
    from pawl.safety.sandbox import read_result

    taken = set()
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        for name in ("plain", "real/gold.json"):
            try:
                taken.add(read_result(arena.work, name, 1 << 20) if arena.guarded else careful(arena.work / name))
            except OSError:
                continue
    stolen = [each for each in taken if each and any(canary.encode() in each for canary in arena.canaries)]
    return [f"the reader took what lay behind a link, {len(stolen)} times"] if stolen else []


def careful(path):
    """What a check before the use comes to."""
    return None if path.is_symlink() else path.read_bytes()


def verdict(arena, result):
    return []
