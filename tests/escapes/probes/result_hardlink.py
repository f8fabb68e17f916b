"""Give a file of the host a second name where the result is expected."""

import os

OUTSIDE_LOOKS = True


def prepare(arena):
    secret = arena.plant("gold.json", mode=0o644)
    shared = arena.host / "shared"
    shared.mkdir(mode=0o755)
    (shared / "data.json").write_text(arena.canary())
    from pawl.safety.sandbox import Mount

    arena.mounts.append(Mount(path=shared))
    return {"secret": str(secret), "shared": str(shared / "data.json")}


def attack(given, attempt):
    attempt("link", lambda: os.link(given["secret"], "answer"))
    attempt(
        "link by descriptor",
        lambda: os.link(f"/proc/self/fd/{os.open(given['secret'], os.O_PATH)}", "answer2", follow_symlinks=True),
    )
    attempt("link of a mounted file", lambda: os.link(given["shared"], "answer3"))


def verdict(arena, result):
    from pawl.safety.sandbox import read_result

    found = []
    for name in ("answer", "answer2", "answer3"):
        try:
            data = read_result(arena.work, name, 1 << 20) if arena.guarded else (arena.work / name).read_bytes()
        except OSError:
            continue
        if data and any(canary.encode() in data for canary in arena.canaries):
            found.append(f"the reader took {name}, which is a file of the host")
    return found
