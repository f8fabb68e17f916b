"""Drown the reader: stdout and stderr without end, a file over its limit, a sparse answer of terabytes."""

import os

OUTSIDE_LOOKS = True


def prepare(arena):
    arena.limits = arena.limits.model_copy(update={"output_bytes": 64 << 10, "wall_seconds": 5})
    return {"most": 8 << 20}


def attack(given, attempt):
    def sparse():
        file = os.open("output.json", os.O_CREAT | os.O_RDWR)
        os.ftruncate(file, 1 << 40)

    def allocate():
        file = os.open("allocated", os.O_CREAT | os.O_RDWR)
        os.posix_fallocate(file, 0, given["most"])

    def write():
        with open("written", "wb") as file:
            for _ in range(given["most"] >> 16):
                file.write(bytes(1 << 16))

    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for name, way in (("sparse", sparse), ("allocate", allocate), ("write", write)):
        attempt(name, way)
    for stream in (2, 1):
        for _ in range(given["most"] >> 16):
            attempt("flood", lambda stream=stream: os.write(stream, b"x" * (1 << 16)))


def verdict(arena, result):
    cap = arena.limits.output_bytes
    found = [
        f"{len(each)} bytes of output were taken where {cap} are"
        for each in (result.stdout, result.stderr)
        if len(each) > cap
    ]
    names = [name for name in ("output.json", "allocated", "written") if (arena.work / name).exists()]
    sizes = {name: (arena.work / name).stat().st_size for name in names}
    return found + [f"{name} has {size} bytes" for name, size in sizes.items() if size > arena.limits.file_bytes]


SILENT = True
