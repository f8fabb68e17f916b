"""Give the sandbox's own process a child that it didn't start (CLONE_PARENT), and that it may wait for in vain."""

import os
import signal
import time

NR_CLONE, CLONE_PARENT = 56, 0x8000


def attack(given, attempt):
    def clone(seconds):
        pid = attempt.syscall(NR_CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            time.sleep(seconds)
            os._exit(0)
        return pid

    attempt("dead", clone, 0)
    attempt("living", clone, 30)
    attempt.hold()


def meanwhile(arena):
    from ..watching import status

    if arena.is_warm:
        return []
    pids = arena.tagged()
    given = [pid for pid in pids if int(status(pid, "PPid") or 0) not in pids]
    arena.memory["given"] = given
    return [f"{len(given)} processes whose parent is trusted, where there was one"] if len(given) > 1 else []


def verdict(arena, result):
    """The sandbox's process is a child of a warm process of the same program, so there the attack's word has to do."""
    if arena.is_warm:
        return ["a child was given away"] if b'"done' in result.stdout else []
    for pid in arena.memory.get("given", []):  # without a sandbox the parent is this very process
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except OSError:
            continue
    return []
