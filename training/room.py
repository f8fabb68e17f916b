"""Whether an error means that there was no room to write: a full disk, a spent quota, a limit on a file's size.

safetensors writes by itself and puts the system's number into its message, so that is read too, as is what another
process of the job has said.
"""

import errno
import re

NO_ROOM = 4
"""Exit status of a trainer that met it."""

_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TOLD = re.compile(r"(?:\(os error |\[Errno )(\d+)[)\]]")


def no_room(error: BaseException) -> bool:
    """Whether this error, or one that it came of, is a lack of room."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _NUMBERS:
            return True
        told = _TOLD.search(str(seen))
        if told is not None and int(told[1]) in _NUMBERS:
            return True
        seen = seen.__cause__ or seen.__context__
    return False
