"""Plant what Python runs as it starts: sitecustomize, usercustomize, .pth files, modules named as the library's own."""

import os
import subprocess
import sys
from contextlib import suppress

TRAP = """
import os
with open({trip!r}, "a") as file:
    file.write({name!r} + chr(10))
"""

OUTSIDE_LOOKS = True


def prepare(arena):
    arena.env |= {"PYTHONUSERBASE": str(arena.work / ".local"), "PYTHONSTARTUP": str(arena.work / "startup.py")}
    (arena.host / "shared").mkdir(mode=0o755)
    return {"trip": str(arena.host / "tripped"), "shared": str(arena.host / "shared")}


def attack(given, attempt):
    def plant(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        trap = TRAP.format(trip=given["trip"], name=os.path.basename(path))
        if path.endswith(".pth"):
            trap = f"import builtins; exec({trap!r})\n"
        with open(path, "w") as file:
            file.write(trap)

    site = f".local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    modules = (
        "sitecustomize",
        "usercustomize",
        "json",
        "ctypes",
        "os",
        "launcher",
        "_signal",
        "encodings",
        "startup",
        "pawl",
    )
    for folder in (".", site, given["shared"], "pawl_worker"):
        for name in (*(f"{module}.py" for module in modules), "evil.pth", "pyvenv.cfg", "__main__.py", "__init__.py"):
            attempt(f"{folder} {name}", plant, os.path.join(folder, name))
    if given["guarded"]:
        for folder in (sys.prefix, sys.base_prefix):
            for name in (site.removeprefix(".local/") + "/sitecustomize.py", "sitecustomize.py"):
                attempt(f"{folder} {name}", plant, os.path.join(folder, name))


async def verdict(arena, result):
    """What is trusted and starts next to this folder: the launcher of the next run in it; else any Python."""
    if arena.guarded:
        for argv in ((sys.executable, "-S", "-c", "pass"), (sys.executable, "-c", "import json, usercustomize")):
            await arena.sandbox.run(arena.command(*argv))
    else:
        environment = {**os.environ, **arena.env, "HOME": str(arena.work)}
        interpreter = os.path.realpath(sys.executable)
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [interpreter, "-c", "import json"], cwd=arena.work, env=environment, capture_output=True, timeout=10
            )
    tripped = arena.host / "tripped"
    return [f"a trusted process ran {name}" for name in tripped.read_text().split()] if tripped.exists() else []
