"""Make a device node of one's own, and read the host's disk by it."""

import os

OUTSIDE_LOOKS = True


def prepare(arena):
    root = os.stat("/").st_dev
    return {"disk": root}


def attack(given, attempt):
    import ctypes
    import stat

    for name, kind, device in (
        ("disk", stat.S_IFBLK, given["disk"]),
        ("memory", stat.S_IFCHR, os.makedev(1, 1)),
        ("zero", stat.S_IFCHR, os.makedev(1, 5)),
        ("white", stat.S_IFCHR, 0),
    ):
        attempt(f"make {name}", lambda name=name, kind=kind, device=device: os.mknod(name, kind | 0o600, device))
        attempt(
            f"make {name} at",
            lambda name=name, kind=kind, device=device: attempt.syscall(
                259, -100, f"at-{name}".encode(), kind | 0o600, device
            ),
        )
        attempt(f"read {name}", lambda name=name: os.open(name, os.O_RDONLY | os.O_NONBLOCK))
    attempt("whiteout", lambda: open("a", "w").close() or attempt.syscall(316, -100, b"a", -100, b"b", 4))
    attempt(
        "capabilities",
        lambda: attempt.syscall(126, (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)),
    )
    attempt("again", lambda: os.mknod("again", stat.S_IFBLK | 0o600, given["disk"]))
    attempt.hold()


def meanwhile(arena):
    from ..watching import held

    return sorted({f"{each.target} is open" for each in held(arena.tagged()) if each.device})


def verdict(arena, result):
    return arena.devices()
