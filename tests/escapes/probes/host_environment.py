"""Read the environment of any process of the host through /proc: the parent, process 1, all of them."""

import os


def prepare(arena):
    victim = arena.victim()
    os.environ["PAWL_ESCAPE_KEY"] = arena.canary()  # what a wrapper that passes its environment on would give away
    arena.stack.callback(os.environ.pop, "PAWL_ESCAPE_KEY", None)
    return {"pids": [victim.pid, os.getpid(), os.getppid()]}


def attack(given, attempt):
    attempt("own", lambda: str(dict(os.environ)))
    pids = [str(pid) for pid in given["pids"]] + ["self", "1", str(os.getppid())]
    pids += [name for name in os.listdir("/proc") if name.isdigit()] + [str(pid) for pid in range(1, 400)]
    for pid in dict.fromkeys(pids):
        for name in ("environ", "cmdline", "comm"):
            attempt(f"{pid} {name}", lambda pid=pid, name=name: attempt.read(f"/proc/{pid}/{name}"))
        attempt(f"{pid} task", attempt.read, f"/proc/{pid}/task/{pid}/environ")
    for pid in list(attempt.ways):
        if not attempt.ways[pid].startswith("done: canary"):
            del attempt.ways[pid]  # hundreds of refusals tell nothing
    attempt("looked", lambda: len(pids))
    attempt("ps", lambda: os.popen("ps eww ax 2>/dev/null").read())
