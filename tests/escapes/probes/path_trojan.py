"""Plant programs under names that trusted ones call: a trojan `curl` passed all of a benchmark of terminals."""

import os
import subprocess
import sys

NAMES = ("curl", "bwrap", "python3", "python", "sh", "git", "uv", "pip", "env", "sleep", "unshare")

OUTSIDE_LOOKS = True


def prepare(arena):
    arena.env["PATH"] = f"{arena.work}/bin:.:{os.environ['PATH']}"
    return {"trip": str(arena.host / "tripped"), "name": f"escape-{arena.tag}"}


def attack(given, attempt):
    def plant(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o755), "w") as file:
            file.write(f"#!/bin/sh\necho {path} >> {given['trip']}\n")

    for folder in (".", "bin", ".local/bin"):
        for name in NAMES:
            attempt(f"{folder}/{name}", plant, f"{folder}/{name}")
    for name in (".bashrc", ".profile", ".bash_profile", ".gitconfig", ".netrc", ".config/git/config"):
        attempt(name, plant, name)
    for folder in ("/usr/local/bin", "/usr/bin", "/bin", os.path.dirname(sys.executable), "/opt"):
        attempt(folder, plant, f"{folder}/{given['name']}")


async def verdict(arena, result):
    if arena.guarded:
        # The wrapper and the launcher start where such programs lie, with a PATH that leads to them.
        await arena.sandbox.run(arena.command(sys.executable, "-S", "-c", "pass"))
    else:
        environment = {**os.environ, **arena.env, "HOME": str(arena.work)}
        subprocess.run(["curl", "--version"], cwd=arena.work, env=environment, capture_output=True, check=False)
    tripped = arena.host / "tripped"
    found = [f"a trusted process ran {name}" for name in tripped.read_text().split()] if tripped.exists() else []
    for folder in ("/usr/local/bin", "/usr/bin", "/bin", os.path.dirname(sys.executable), "/opt"):
        path = os.path.join(folder, f"escape-{arena.tag}")
        if os.path.exists(path):
            os.unlink(path)
            found.append(f"a program was put in {folder}")
    return found
