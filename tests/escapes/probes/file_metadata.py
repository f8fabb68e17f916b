"""Learn of sealed files without opening them: that they are there, how long they are, when they last changed."""

import os
import secrets


def prepare(arena):
    size = secrets.randbelow(1 << 19) + 4097
    sealed = arena.host / "home" / "judge"
    sealed.mkdir(parents=True, mode=0o700)
    (sealed / "items.json").write_bytes(b"x" * size)
    (sealed / "link").symlink_to(arena.canary())
    os.utime(sealed / "items.json", (size, size))
    arena.memory["size"] = str(size).encode()
    return {"file": str(sealed / "items.json"), "link": str(sealed / "link")}


def attack(given, attempt):
    attempt("stat", lambda: "size {0.st_size} time {0.st_mtime:.0f}".format(os.stat(given["file"])))
    attempt("follow", os.readlink, given["link"])
    attempt("named", lambda: f"size {os.fstat(os.open(given['file'], os.O_PATH)).st_size}")
    attempt("there", lambda: os.access(given["file"], os.F_OK) or 1 / 0)
    attempt("list", os.listdir, os.path.dirname(given["file"]))
    attempt("attributes", os.listxattr, given["file"])
    attempt("enter", lambda: os.chdir(os.path.dirname(given["file"])) or os.stat("items.json").st_size)


def verdict(arena, result):
    told = arena.memory["size"] in result.stdout
    return arena.leaked(result) + (["the size or time of a sealed file came out"] if told else [])
