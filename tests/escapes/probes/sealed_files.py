"""Read what is sealed: the judge's folder, the home's databases, another item's payload, by every name they have."""

import ctypes
import os
from pathlib import Path


def prepare(arena):
    planted = ["home/judge/sealed.json", "home/pawl.sqlite", "home/checkpoints.sqlite", "home/artifacts/ab/abcd"]
    planted += ["home/run/key", "rollouts/000001/item.json", "rollouts/000001/output.json"]
    files = [str(arena.plant(name)) for name in planted] + [str(arena.plant("home/public", mode=0o644))]
    (arena.work / "link").symlink_to(files[0])
    (arena.work / "folder").symlink_to(arena.host)
    return {"files": files, "host": str(arena.host), "pid": os.getpid()}


def attack(given, attempt):
    for path in given["files"]:
        relative = os.path.relpath(path)
        roots = ["/proc/self/root", "/proc/1/root", f"/proc/{os.getppid()}/root", f"/proc/{given['pid']}/root"]
        roots += ["/proc/self/task/1/root", "/proc/thread-self/root"]
        for name in (path, relative, "/proc/self/cwd/" + relative, f"/proc/{given['pid']}/cwd/{relative}"):
            attempt(name, attempt.read, name)
        for root in roots:
            attempt(root + path, lambda root=root, path=path: attempt.read(root + path))
        attempt(f"link {path}", lambda path=path: os.link(path, "linked") or attempt.read("linked"))
        attempt(f"move {path}", lambda path=path: os.rename(path, "moved") or attempt.read("moved"))
        attempt(f"handle {path}", lambda path=path: by_handle(attempt, path))
        attempt(f"mmap {path}", lambda path=path: by_path_descriptor(path))
    attempt("planted link", lambda: attempt.read("link"))
    attempt("planted folder", lambda: attempt.read("folder/home/pawl.sqlite"))
    for folder in (given["host"], "/root", "/home", "/tmp", "/var/tmp", str(Path(given["work"]).parent)):
        attempt(f"walk {folder}", lambda folder=folder: walk(attempt, folder))
    attempt("a parent's descriptors", lambda: walk(attempt, f"/proc/{os.getppid()}/fd"))


def by_handle(attempt, path):
    """The way past every folder's rights: a file by its handle, as containers were once left."""
    handle, mount = (ctypes.c_ubyte * 136)(128), ctypes.c_int()
    attempt.syscall(303, -100, path.encode(), handle, ctypes.byref(mount), 0)
    root = os.open("/", os.O_RDONLY)
    with os.fdopen(attempt.syscall(304, root, handle, os.O_RDONLY), "rb") as file:
        return file.read()


def by_path_descriptor(path):
    """A descriptor that names and doesn't open, opened again through /proc."""
    named = os.open(path, os.O_PATH)
    with open(f"/proc/self/fd/{named}", "rb") as file:
        return file.read()


def walk(attempt, folder):
    found, looked = [], 0
    for root, _, names in os.walk(folder, onerror=raise_at_once):
        for name in names[:200]:
            looked += 1
            try:
                file = os.open(os.path.join(root, name), os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                found.append(os.read(file, 4096))
            except OSError:
                continue
            finally:
                os.close(file)
        if looked > 500:
            break
    return b"".join(found)


def raise_at_once(error):
    raise error
