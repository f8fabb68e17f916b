"""Leases on adapters: while one is held, by any process of a home, its adapter is neither unloaded nor deleted.

    leases = AdapterLeases(folder)
    with leases.hold(digest):           # shared: as many as like
        ...
    with leases.claim(digest) as mine:  # to take the adapter away; false where somebody holds it
        if mine: ...

They are locks on files (flock), so that a process that dies leaves none. A file's time is the last use of its adapter.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

WAIT_SECONDS = 0.02


class AdapterLeases:
    """The leases on adapters of one server.

    Args:
        folder: of their files, shared by all who use the server.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def hold(self, digest: str) -> AsyncGenerator[None]:
        """Share an adapter; waits while somebody takes it away."""
        while True:
            file = self._open(digest)
            try:
                if self._lock(file, digest, fcntl.LOCK_SH):
                    os.utime(file)
                    yield
                    os.utime(file)
                    return
            finally:
                os.close(file)
            await asyncio.sleep(WAIT_SECONDS)

    @contextmanager
    def claim(self, digest: str) -> Generator[bool]:
        """Have an adapter alone, if nobody holds it."""
        file = self._open(digest)
        try:
            yield self._lock(file, digest, fcntl.LOCK_EX)
        finally:
            os.close(file)

    def last_used(self, digest: str) -> int:
        """When it was last held, in nanoseconds; 0 if it never was."""
        try:
            return self._path(digest).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def forget(self, digest: str) -> None:
        """Delete the file of an adapter that is gone; only for who has claimed it."""
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.lease"

    def _open(self, digest: str) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        return os.open(self._path(digest), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _lock(self, file: int, digest: str, kind: int) -> bool:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:  # between opening and locking it may have been deleted, and made anew
            return os.path.samestat(os.fstat(file), self._path(digest).stat())
        except FileNotFoundError:
            return False
