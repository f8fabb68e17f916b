"""How the trusted side takes a result back out of a work folder that a candidate could write."""

import os
import stat
from pathlib import Path, PurePosixPath

from ...core.artifacts import check_relative


def read_result(work: Path, name: str, limit: int) -> bytes | None:
    """Read one file below a work folder, without following any link in it.

    Args:
        work: the folder; its own place is the trusted side's.
        name: relative path of the file.
        limit: the most bytes that are taken.

    Returns:
        The bytes; none if the file is missing, longer than the limit, or not a plain file of one name.

    Raises:
        ConfigurationError: the name leaves the folder.
    """
    parts = PurePosixPath(check_relative(name)).parts
    opened: list[int] = []
    try:
        opened.append(os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for part in parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            opened.append(os.open(part, flags, dir_fd=opened[-1]))
        # A pipe in the file's place must not hold the reader up.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        opened.append(os.open(parts[-1], flags, dir_fd=opened[-1]))
        found = os.fstat(opened[-1])
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > limit:
            return None
        with os.fdopen(opened.pop(), "rb") as file:
            data = file.read(limit + 1)
        return data if len(data) <= limit else None
    except OSError:
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)
