"""Folders that a candidate wrote in, walked and removed whatever is in them: links, closed folders, any depth.

The standard library's walks recurse, or name what they find by its whole path; folders in folders in folders end both.
Here folders are entered by name and left to a descriptor that was kept or, deep down, by `..`; no link is followed.
"""

import contextlib
import os
import stat
import time
from collections.abc import Generator
from pathlib import Path

FILES = 32_768
"""The most that may lie in a scratch: more would make a look at it slow."""
_ENTRY = 4096
"""The least that a file counts for: an empty one takes up an inode, of which a disk has few."""
_KEPT = 32
"""How many folders above are kept open."""
_LOOKS = 10
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Moved(Exception):
    """A folder was moved or removed while it was walked, so that not all was seen."""


def written(folder: Path, most: int, files: int = FILES) -> int:
    """Bytes on disk below a folder in which something may be writing; more than `most` stands for too much.

    More than so many files are too much, and so is what can't be seen: a closed folder, or folders that are moved about
    so fast that look after look is lost.
    """
    for attempt in range(_LOOKS):
        with contextlib.suppress(Moved):
            return _written(folder, most, files)
        time.sleep(0.001 * attempt)
    return most + 1


def _written(folder: Path, most: int, files: int) -> int:
    total = 0
    for count, (_, _, found) in enumerate(entries(folder), 1):
        total += max(_ENTRY, found.st_blocks * 512)
        closed = stat.S_ISDIR(found.st_mode) and found.st_mode & 0o500 != 0o500 and os.getuid() != 0
        if total > most or count > files or closed:
            return max(total, most + 1)
    return total


def entries(folder: Path) -> Generator[tuple[int, str, os.stat_result]]:
    """Everything below a folder: a descriptor, a name below it, and its status.

    A folder comes before what is in it. One that may not be opened is passed over, and so is a folder that isn't there.

    Raises:
        Moved: something moved or removed a folder meanwhile.
    """
    for descriptor, name, found, leaving in _walk(folder):
        if not leaving:
            yield descriptor, name, found


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it; what the system doesn't let go of stays."""
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
    with contextlib.suppress(Moved):
        for descriptor, name, found, leaving in _walk(folder):
            with contextlib.suppress(OSError):
                if leaving:
                    os.rmdir(name, dir_fd=descriptor)
                elif stat.S_ISDIR(found.st_mode):
                    os.chmod(name, 0o700, dir_fd=descriptor)
                else:
                    os.unlink(name, dir_fd=descriptor)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _walk(folder: Path) -> Generator[tuple[int, str, os.stat_result, bool]]:
    """Each entry, and each folder once more when all below it has been seen."""
    try:
        here = os.open(folder, _OPEN)
    except OSError:
        return
    waiting: list[list[tuple[str, bool]]] = []
    above: list[tuple[str, os.stat_result, os.stat_result, int]] = []
    """For each folder that was entered: its name, its status, that of the folder it was entered from, and the latter's
    descriptor, or -1 where it was closed."""
    try:
        waiting.append(_listed(here))
        while True:
            if waiting[-1]:
                name, was_folder = waiting[-1].pop()
                try:
                    found = os.stat(name, dir_fd=here, follow_symlinks=False)
                except OSError:
                    if was_folder:
                        raise Moved from None
                    continue
                yield here, name, found, False
                if not stat.S_ISDIR(found.st_mode):
                    continue
                try:
                    below = os.open(name, _OPEN, dir_fd=here)
                except PermissionError:
                    if found.st_mode & 0o500 == 0o500 and found.st_uid == os.getuid():
                        raise Moved from None  # it was closed just now
                    continue
                except OSError:
                    raise Moved from None
                above.append((name, found, os.fstat(here), here if len(above) < _KEPT else -1))
                if len(above) > _KEPT:
                    os.close(here)
                here = below
                waiting.append(_listed(here))
                continue
            waiting.pop()
            if not above:
                return
            name, found, parent, kept = above.pop()
            back = _up(here, parent) if kept < 0 else kept
            os.close(here)
            here = back
            yield here, name, found, True
    finally:
        os.close(here)
        for *_, kept in above:
            if kept >= 0:
                os.close(kept)


def _listed(folder: int) -> list[tuple[str, bool]]:
    """Names in a folder, and whether each is a folder."""
    try:
        with os.scandir(folder) as listing:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    except OSError:
        raise Moved from None


def _up(here: int, parent: os.stat_result) -> int:
    """The folder above, which must be the one that this was entered from."""
    try:
        back = os.open("..", _OPEN, dir_fd=here)
    except OSError:
        raise Moved from None
    if os.path.samestat(os.fstat(back), parent):
        return back
    os.close(back)
    raise Moved
