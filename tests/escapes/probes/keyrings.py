"""Read the kernel's keyrings, which are the user's and know no folders."""

import ctypes

ADD, REQUEST, CONTROL = 248, 249, 250
SEARCH, READ, LINK, DESCRIBE = 10, 11, 8, 6
RINGS = {"thread": -1, "process": -2, "session": -3, "user": -4, "user session": -5}


def prepare(arena):
    libc = ctypes.CDLL(None, use_errno=True)
    numbers, secret = [], arena.canary().encode()
    for ring in (-4, -5, -3):
        key = libc.syscall(ADD, b"user", f"pawl-{arena.tag}".encode(), secret, len(secret), ring)
        if key > 0:
            libc.syscall(CONTROL, 5, key, 0x3F3F3F3F)  # every right to everyone: only the sandbox is in the way
            numbers.append(key)
            arena.stack.callback(libc.syscall, CONTROL, 21, key)  # invalidate
    return {"name": f"pawl-{arena.tag}", "keys": numbers}


def attack(given, attempt):
    name = given["name"].encode()

    def read(key):
        buffer = ctypes.create_string_buffer(256)
        attempt.syscall(CONTROL, READ, key, buffer, 256)
        return buffer.value

    for ring, number in RINGS.items():
        attempt(
            f"search {ring}", lambda number=number: read(attempt.syscall(CONTROL, SEARCH, number, b"user", name, 0))
        )
        attempt(f"add {ring}", lambda number=number: attempt.syscall(ADD, b"user", b"left", b"x", 1, number))
    attempt("request", lambda: read(attempt.syscall(REQUEST, b"user", name, None, 0)))
    for key in given["keys"]:
        attempt(f"key {key}", lambda key=key: read(key))
    attempt("join", lambda: attempt.syscall(CONTROL, 1, b"_ses"))
    attempt("list", lambda: attempt.read("/proc/keys"))
    attempt(
        "x32",
        lambda: attempt.syscall(0x40000000 + CONTROL, READ, given["keys"][0], ctypes.create_string_buffer(64), 64),
    )
