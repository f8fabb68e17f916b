"""Tell the outside of an end that didn't happen: by the launcher's own pipe, by ending the launcher first."""

import os
import signal

OUTSIDE_LOOKS = True


def prepare(arena):
    if arena.guarded:
        return {}
    ours, theirs = os.pipe()  # a careless harness: its status comes by a pipe that is inherited
    os.dup2(theirs, 96, inheritable=True)
    os.close(theirs)
    arena.memory["status"] = ours
    arena.stack.callback(os.close, ours)
    arena.stack.callback(os.close, 96)
    return {"pipe": 96}


def attack(given, attempt):
    def say(path):
        file = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        return os.write(file, b"ok 0 0.000001")

    if given["guarded"]:
        for pid in {os.getppid(), 1}:
            for number in range(256):
                attempt(f"{pid} {number}", say, f"/proc/{pid}/fd/{number}")
            attempt(f"{pid} environment", attempt.read, f"/proc/{pid}/environ")
            for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGINT):
                attempt(f"{pid} signal {number}", os.kill, pid, number)
        for number in range(3, 256):
            attempt(f"own {number}", say, f"/proc/self/fd/{number}")
    else:
        attempt("pipe", say, f"/proc/self/fd/{given['pipe']}")
    print('{"ways": {"tried": "done"}}', flush=True)
    os._exit(9)


def verdict(arena, result):
    if not arena.guarded:
        return ["the harness was told of status 0"] if b"ok 0" in os.read(arena.memory["status"], 100) else []
    found = (
        [f"it left with 9, and {result.ending} {result.status} was told"]
        if (result.ending, result.status) != ("exited", 9)
        else []
    )
    return found + (["its CPU time was told as none"] if result.cpu_seconds < 0.005 else [])
