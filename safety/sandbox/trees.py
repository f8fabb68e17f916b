"""Folders that a candidate wrote in, walked and removed whatever is in them: links, closed folders, any depth.

The standard library's walks recurse, or name what they find by its whole path; folders in folders in folders end both.
Here one descriptor goes down by name and up by `..`, and no link is followed.
"""

import contextlib
import os
import stat
from collections.abc import Generator
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def entries(folder: Path) -> Generator[tuple[int, str, os.stat_result]]:
    """Everything below a folder in which nothing writes any more: a descriptor, a name below it, and its status.

    A folder comes before what is in it. One that can't be opened is passed over, and so is a folder that isn't there.
    """
    for descriptor, name, found, leaving in _walk(folder):
        if not leaving:
            yield descriptor, name, found


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it; what the system doesn't let go of stays."""
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
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
    waiting: list[list[str]] = [os.listdir(here)]
    above: list[tuple[str, os.stat_result, os.stat_result]] = []
    """For each folder that was entered: its name, its status, and that of the folder it was entered from."""
    try:
        while True:
            if waiting[-1]:
                name = waiting[-1].pop()
                try:
                    found = os.stat(name, dir_fd=here, follow_symlinks=False)
                    yield here, name, found, False
                    if not stat.S_ISDIR(found.st_mode):
                        continue
                    below = os.open(name, _OPEN, dir_fd=here)
                except OSError:
                    continue
                above.append((name, found, os.fstat(here)))
                os.close(here)
                here = below
                waiting.append(os.listdir(here))
                continue
            waiting.pop()
            if not above:
                return
            name, found, parent = above.pop()
            back = os.open("..", _OPEN, dir_fd=here)
            os.close(here)
            here = back
            if not os.path.samestat(os.fstat(here), parent):
                return  # somebody moved it, who should be gone
            yield here, name, found, True
    finally:
        os.close(here)
