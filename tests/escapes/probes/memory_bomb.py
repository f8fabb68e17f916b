"""Take more memory than all of a run may: in many processes, in files that live in memory, in pipes."""

import mmap
import os
import signal
import time

MIB = 1 << 20


def prepare(arena):
    arena.limits = arena.limits.model_copy(
        update={"memory_bytes": 256 * MIB, "total_memory_bytes": 192 * MIB, "file_bytes": 128 * MIB}
    )
    return {}


def attack(given, attempt):
    children, kept = [], []

    def child():
        full, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(full)
                area = mmap.mmap(-1, 96 * MIB)
                for start in range(0, 96 * MIB, MIB):
                    area[start : start + MIB] = b"x" * MIB
                os.write(tell, b".")
                time.sleep(60)
            finally:
                os._exit(0)
        children.append(pid)
        os.close(tell)
        return os.read(full, 1)

    def in_memory():
        file = os.memfd_create("x")
        kept.append(file)
        for _ in range(96):
            os.write(file, b"x" * MIB)

    for number in range(3):
        attempt(f"file in memory {number}", in_memory)
    for number in range(4):
        attempt(f"process {number}", child)
    attempt.hold()
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def meanwhile(arena):
    from ..watching import resident_bytes

    arena.memory["most"] = max(arena.memory.get("most", 0), resident_bytes(arena.tagged()))
    return []


def verdict(arena, result):
    """Where no control group bounds a run it is watched, and ended when a look finds it over its limit."""
    most, limit = arena.memory.get("most", 0), arena.limits.total_memory_bytes
    ended = result.ending == "memory_limit"
    over = most > (4 if ended else 1.25) * limit
    found = [f"{most >> 20} MiB were held where {limit >> 20} were allowed"] if over else []
    return found + (arena.leftovers() if arena.guarded else [])


SILENT = True
