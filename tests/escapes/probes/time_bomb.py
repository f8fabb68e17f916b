"""Leave something behind that acts after its parent has ended: daemons, orphans, sleepers that ignore every signal."""

import atexit
import contextlib
import os
import subprocess
import sys
import time

BOMB = """
import os, signal, sys, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
beat = 0
while True:
    beat += 1
    with open(sys.argv[1], "w") as file: file.write(str(beat))
    time.sleep(0.03)
"""

OUTSIDE_LOOKS = True


def attack(given, attempt):
    bomb = [sys.executable, "-S", "-c", BOMB]

    def daemon(name, *steps):
        if os.fork():
            return os.wait() and None
        for step in steps:
            with contextlib.suppress(OSError):
                step()
        if os.fork() == 0:
            for number in (0, 1, 2):
                os.dup2(os.open("/dev/null", os.O_RDWR), number)
            os.execv(bomb[0], [*bomb, name])
        os._exit(0)

    attempt("daemon", lambda: daemon("beat-daemon", os.setsid))
    attempt("orphan", lambda: daemon("beat-orphan"))
    attempt("group", lambda: daemon("beat-group", lambda: os.setpgid(0, 0)))
    attempt("twice", lambda: daemon("beat-twice", os.setsid, lambda: os.fork() and os._exit(0), os.setsid))
    attempt("session", lambda: subprocess.Popen([*bomb, "beat-session"], start_new_session=True).pid)
    attempt("no descriptors", lambda: subprocess.Popen([*bomb, "beat-closed"], stdin=-3, stdout=-3, stderr=-3).pid)
    atexit.register(lambda: subprocess.Popen([*bomb, "beat-exit"], start_new_session=True))
    attempt("adopt", lambda: attempt.libc.prctl(36, 0, 0, 0, 0))  # so that orphans go to whoever is above
    attempt("outlive", lambda: attempt.libc.prctl(1, 0, 0, 0, 0))
    until = time.monotonic() + 2
    while len([name for name in os.listdir(".") if name.startswith("beat-")]) < 6 and time.monotonic() < until:
        time.sleep(0.01)


def verdict(arena, result):
    found = arena.leftovers()
    beats = {path.name: path.read_text() for path in arena.work.glob("beat-*")}
    assert beats, "no bomb was ever set"
    time.sleep(0.15)
    ticking = [name for name, beat in beats.items() if (arena.work / name).read_text() != beat]
    return found + [f"{name} went on after the end" for name in ticking]
