"""Change what a process of the host may take: limits, priority, processors, scheduler, its turn to die for memory."""

import ctypes
import os


def prepare(arena):
    return {"pid": arena.victim().pid}


def attack(given, attempt):
    pid = given["pid"]
    attempt("limits", lambda: attempt.syscall(302, pid, 7, (ctypes.c_ulong * 2)(3, 3), None))
    attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
    attempt("everyone's priority", lambda: os.setpriority(os.PRIO_USER, 0, 19) if given["guarded"] else None)
    attempt("affinity", lambda: os.sched_setaffinity(pid, {0}))
    attempt("scheduler", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
    attempt("attributes", lambda: attempt.syscall(314, pid, (ctypes.c_uint32 * 12)(48, 5, 0, 0, 19), 0))
    attempt("disk", lambda: attempt.syscall(251, 1, pid, 3 << 13))
    for name in ("oom_score_adj", "coredump_filter", "timerslack_ns", "autogroup", "sched", "clear_refs"):
        attempt(name, lambda name=name: write(f"/proc/{pid}/{name}", "1000" if name == "oom_score_adj" else "0"))


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def verdict(arena, result):
    return arena.victim_process.touched()
