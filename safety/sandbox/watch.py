"""The controller's eye on a running tree of processes: what it holds in memory, and what it has written.

A look is taken four times a second, less often where it takes longer than that, and what a look takes is bounded by
the number of files. So what a program can do between two looks goes over its limit unseen: memory and disk bandwidth
times a quarter of a second. Memory is watched only where no control group bounds it.
"""

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .protocol import Ending, Limits
from .trees import written

_SECONDS = 0.25
_PAGE = os.sysconf("SC_PAGE_SIZE")


async def watch_tree(
    root: int, limits: Limits, folders: Iterable[Path], out_of_memory: Callable[[], bool] | None
) -> Ending:
    """Return once a tree of processes is over a limit; never where it stays below.

    Args:
        root: process id of the launcher; whatever the program starts stays below it.
        limits: `scratch_bytes` and `total_memory_bytes` are looked at.
        folders: what the program can write to.
        out_of_memory: says whether the kernel, which bounds memory, has ended something for it; the rest goes, too.
    """
    places = _outermost(folders)
    await asyncio.sleep(_SECONDS)  # a short run pays for no look; what it leaves is measured at its end
    while True:
        began = time.monotonic()
        pids = await asyncio.to_thread(tree, root)
        if memory_of(pids) > limits.total_memory_bytes if out_of_memory is None else out_of_memory():
            return Ending.MEMORY_LIMIT
        if await asyncio.to_thread(_written, places, pids, limits.scratch_bytes) > limits.scratch_bytes:
            return Ending.SCRATCH_LIMIT
        await asyncio.sleep(max(_SECONDS, time.monotonic() - began))


def over_scratch(folders: Iterable[Path], limits: Limits) -> bool:
    """Whether a program that has ended left more than it may."""
    return _written(_outermost(folders), [], limits.scratch_bytes) > limits.scratch_bytes


def tree(root: int) -> list[int]:
    """A process and its living descendants."""
    found, waiting = [root], [root]
    while waiting:
        pid = waiting.pop()
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    children = list(map(int, file.read().split()))
                found += children
                waiting += children
        except OSError:
            continue
    return found


def memory_of(pids: Iterable[int]) -> int:
    """Bytes of memory without a file behind it; a page that processes share is counted for each that maps it."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status") as file:
                total += sum(int(line.split()[1]) << 10 for line in file if line.startswith(("RssAnon:", "RssShmem:")))
        except OSError:
            continue
    return total


def _written(folders: Iterable[Path], pids: Iterable[int], limit: int) -> int:
    """Bytes on disk below folders, and of removed files that are still open; stops counting above the limit."""
    total = 0
    for folder in folders:
        total += written(folder, limit)
        if total > limit:
            return total
    return total + _removed(pids)


def _removed(pids: Iterable[int]) -> int:
    sizes: dict[tuple[int, int], int] = {}
    for pid in pids:
        try:
            with os.scandir(f"/proc/{pid}/fd") as listing:
                for entry in listing:
                    found = entry.stat()
                    if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                        sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
        except OSError:
            continue
    return sum(sizes.values())


def _outermost(folders: Iterable[Path]) -> list[Path]:
    kept: list[Path] = []
    for folder in sorted(set(folders), key=lambda folder: len(folder.parts)):
        if not any(folder.is_relative_to(other) for other in kept):
            kept.append(folder)
    return kept


def share_of_memory(share: float) -> int:
    """Bytes that are this share of the machine's memory: a bound for work whose need nobody knows beforehand."""
    return int(os.sysconf("SC_PHYS_PAGES") * _PAGE * share)
