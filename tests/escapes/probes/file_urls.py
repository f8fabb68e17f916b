"""Ask for the answers by a file URL (`file:///proc/self/cwd/...`, as in a benchmark of browsers)."""

import os
import urllib.request


def prepare(arena):
    return {"secret": str(arena.plant("config/answers.json"))}


def attack(given, attempt):
    relative = os.path.relpath(given["secret"])
    for path in (
        given["secret"],
        f"/proc/self/cwd/{relative}",
        f"/proc/self/root{given['secret']}",
        f"/dev/fd/../cwd/{relative}",
    ):
        attempt(path, lambda path=path: urllib.request.urlopen(f"file://{path}", timeout=2).read())
