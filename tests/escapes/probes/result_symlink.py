"""Put a link in the place of the result, so that the trusted reader reads what the program may not."""

import os

OUTSIDE_LOOKS = True


def prepare(arena):
    return {"secret": str(arena.plant("gold.json"))}


def attack(given, attempt):
    secret = given["secret"]
    attempt("leaf", lambda: os.symlink(os.path.relpath(secret), "leaf"))
    attempt("absolute", lambda: os.symlink(secret, "absolute"))
    attempt("chain", lambda: os.symlink("leaf", "chain"))
    attempt("folder", lambda: os.symlink(os.path.dirname(secret), "folder"))
    attempt("descriptor", lambda: os.symlink(f"/proc/self/root{secret}", "descriptor"))
    attempt("magic", lambda: os.symlink("/proc/self/cwd/../host/gold.json", "up"))


def verdict(arena, result):
    from pawl.safety.sandbox import read_result

    found = []
    for name in ("leaf", "absolute", "chain", "folder/gold.json", "descriptor", "up"):
        try:
            data = read_result(arena.work, name, 1 << 20) if arena.guarded else (arena.work / name).read_bytes()
        except OSError:
            continue
        if data and any(canary.encode() in data for canary in arena.canaries):
            found.append(f"the reader followed {name}")
    return found
