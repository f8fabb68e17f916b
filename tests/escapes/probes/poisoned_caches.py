"""Put something into a cache that another process reads later: byte code, Triton, models, verifications."""

import os
import sys
import tempfile


def prepare(arena):
    import importlib.util

    import pawl

    package = os.path.dirname(pawl.__file__)
    pydantic = os.path.dirname(importlib.util.find_spec("pydantic").origin)
    home = arena.host / "home"
    folders = [
        str(home / name) for name in ("verifications", "adapters", "artifacts/ab", "runs/job", "models/converted")
    ]
    for folder in folders:
        os.makedirs(folder, mode=0o755)
    places = [
        *folders,
        *(f"{package}/{name}/__pycache__" for name in ("core", "safety/sandbox", "kernels", "evals", "serving")),
    ]
    places += [f"{package}/evals/scaffolds", package, pydantic, f"{pydantic}/__pycache__", os.path.dirname(os.__file__)]
    places += [
        sys.prefix,
        f"{sys.base_prefix}/lib",
        os.path.dirname(sys.executable),
        tempfile.gettempdir(),
        "/var/tmp",
        "/dev/shm",
    ]
    places += [
        os.path.expanduser(f"~/{name}")
        for name in ("", ".triton/cache", ".cache/huggingface", ".cache/torch", ".nv/ComputeCache")
    ]
    arena.memory["places"] = [place for place in places if os.path.isdir(place)]
    return {"places": arena.memory["places"], "name": f"escape-{arena.tag}.pyc"}


def attack(given, attempt):
    def plant(path):
        with open(path, "w") as file:
            file.write("poison")

    def move(path):
        plant("poison")
        os.rename("poison", path)

    def link(path):
        plant("other")
        os.link("other", path)

    for place in given["places"]:
        path = os.path.join(place, given["name"])
        for name, way in (("write", plant), ("move", move), ("link", link), ("folder", os.mkdir)):
            attempt(f"{name} {place}", way, f"{path}-{name}")
        attempt(f"symlink {place}", os.symlink, "/tmp", f"{path}-symlink")
        attempt(f"pipe {place}", os.mkfifo, f"{path}-pipe")


def verdict(arena, result):
    found = []
    for place in arena.memory["places"]:
        left = [name for name in os.listdir(place) if name.startswith(f"escape-{arena.tag}")]
        for name in left:
            path = os.path.join(place, name)
            os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        if left:
            found.append(f"{len(left)} files were put in {place}")
    return found
