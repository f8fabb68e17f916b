"""Keep a descriptor of a neighbour's, so that who waits for the neighbour's end waits for this program's."""

import os
import select
import time


def prepare(arena):
    arena.env["ESCAPE_NEIGHBOUR"] = "1"  # for a warm sandbox, whose children may have neighbours
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    arena.memory["waiting"] = [ours, theirs]
    arena.stack.callback(lambda: [os.close(each) for each in arena.memory["waiting"]])
    return {}


def attack(given, attempt):
    attempt("kept", lambda: sorted(os.listdir("/proc/self/fd")))
    attempt.hold()
    if not os.path.exists("release"):  # nobody looks into a warm sandbox
        time.sleep(1.5)


def meanwhile(arena):
    ours, *theirs = arena.memory["waiting"]
    for each in theirs:
        os.close(each)
    arena.memory["waiting"] = [ours]
    return (
        [] if select.select([ours], [], [], 0.5)[0] else ["who waited for a neighbour's end waited for the program's"]
    )


def verdict(arena, result):
    return ["a neighbour's answer waited for the program's end"] if b"was held up" in result.stderr else []
