"""Runs one attack where it was put, and prints as JSON what each of its ways came to.

python -S inside.py PROBE.py GIVEN
"""

import ctypes
import errno
import json
import os
import re
import sys
import time

CANARY = re.compile(rb"canary-[0-9a-f]{32}")
_libc = ctypes.CDLL(None, use_errno=True)


class Attempts:
    """Notes what each way of an attack came to; a way that fails never ends the attack."""

    def __init__(self, work):
        self.work = work
        self.ways = {}
        self.libc = _libc

    def __call__(self, name, way, *arguments):
        try:
            value = way(*arguments)
        except OSError as error:
            self.ways[name] = f"refused: {errno.errorcode.get(error.errno or 0, error)}"
            return None
        except BaseException as error:
            self.ways[name] = f"failed: {type(error).__name__}: {error}"[:200]
            return None
        data = value if isinstance(value, bytes) else str(value).encode(errors="replace")
        found = sorted({each.decode() for each in CANARY.findall(data)})
        self.ways[name] = f"done: {' '.join(found[:50]) or data[:80].decode(errors='replace')}"
        return value

    def syscall(self, number, *arguments):
        """A raw system call; integers are passed whole."""
        whole = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
        result = _libc.syscall(ctypes.c_long(number), *whole)
        if result < 0:
            raise OSError(ctypes.get_errno(), "refused")
        return result

    def read(self, path, size=1 << 20):
        with open(path, "rb") as file:
            return file.read(size)

    def write(self, path, data):
        with open(path, "wb") as file:
            return file.write(data if isinstance(data, bytes) else data.encode())

    def hold(self, seconds=1.5):
        """Keep what was got until the outside has looked."""
        with open(f"{self.work}/holding", "w"):
            pass
        until = time.monotonic() + seconds
        while not os.path.exists(f"{self.work}/release") and time.monotonic() < until:
            time.sleep(0.01)


def main():
    given = json.loads(sys.argv[2])
    with open(sys.argv[1]) as file:
        source = file.read()
    print(json.dumps({"ways": attack(source, sys.argv[1], given)}), flush=True)


def attack(source, path, given):
    """Run a probe's attack; returns what each of its ways came to."""
    attempt = Attempts(given["work"])
    scope = {"__name__": "probe", "__file__": path}
    exec(compile(source, path, "exec"), scope)
    try:
        scope["attack"](given, attempt)
    except BaseException as error:
        attempt.ways["the attack itself"] = f"failed: {type(error).__name__}: {error}"
    return attempt.ways


if __name__ == "__main__":
    main()
