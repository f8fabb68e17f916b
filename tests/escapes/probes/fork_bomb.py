"""Start processes without end (here: ten times the limit, so that the attack can be run unguarded)."""

import os
import signal
import time


def attack(given, attempt):
    children = []

    def fork():
        pid = os.fork()
        if pid == 0:
            while True:
                time.sleep(60)
        children.append(pid)

    def nest(depth):
        """Each child makes the next, so that no parent's count tells."""
        if os.fork() == 0:
            if depth:
                nest(depth - 1)
            while True:
                time.sleep(60)

    for number in range(160):
        attempt(f"fork {number}", fork)
    attempt("nest", lambda: nest(80))
    time.sleep(0.1)
    attempt.hold()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    refused = sum(1 for way in attempt.ways.values() if way.startswith("refused"))
    attempt.ways = {"forked": f"{len(children)}, and {refused} times refused"}


def meanwhile(arena):
    count = len(arena.tagged())
    limit = arena.limits.processes
    slack = 12 if arena.is_warm else 2  # a warm process is counted with its child
    return [f"{count} processes were alive where {limit} were allowed"] if count > limit + slack else []


def verdict(arena, result):
    return [] if not arena.guarded else arena.leftovers()
