"""Dedicated users: where Pawl runs as root, every run gets a user id that no other run has at the time.

    with borrow_user() as user:          # held by a lock file, so that other processes of Pawl pass it over
        user.own(work)

Root's own id would open what belongs to root (`core_pattern`, say), and no limit on processes binds it. The ids lie in
a range that systemd's table of users leaves unused, below what a container's own map usually ends at.
"""

import fcntl
import os
import stat
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...core import SandboxUnavailable
from .trees import Moved, entries

FIRST, COUNT = 60_928, 256
GROUP = FIRST - 1
"""A group of all dedicated users: who is in it may use the sockets that are mounted for it."""
_TRIED = 1000
_LOCKS = Path("/run/pawl/users")


@dataclass(frozen=True)
class DedicatedUser:
    """A user id, borrowed for one run; its group has the same number."""

    id: int
    lock: int
    """Descriptor of the lock; the launcher inherits it, so that the id stays taken while the run is being ended."""

    def own(self, folder: Path) -> None:
        """Give a folder and all below it to this user; links are given, never followed.

        A file of several names stays whose it is: one of them may lie elsewhere.
        """
        _give(folder, self.id)
        with suppress(Moved):  # by another run that may write here, too
            for descriptor, name, found in entries(folder):
                if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
                    os.chown(name, self.id, self.id, dir_fd=descriptor, follow_symlinks=False)

    def share(self, socket: Path) -> None:
        """Let dedicated users connect to a socket of Pawl."""
        os.chown(socket, -1, GROUP, follow_symlinks=False)
        os.chmod(socket, stat.S_IMODE(socket.stat().st_mode) | 0o060)


@contextmanager
def borrow_user() -> Generator[DedicatedUser]:
    """A user id that nobody else borrows until the block has ended.

    Raises:
        SandboxUnavailable: all are taken, or the folder of locks can't be written.
    """
    lock, number = _lock()
    try:
        yield DedicatedUser(number, lock)
    finally:
        os.close(lock)


def _lock() -> tuple[int, int]:
    try:
        _LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
        start = os.getpid() * 31
        for step in range(COUNT):
            number = FIRST + (start + step) % COUNT
            lock = os.open(_LOCKS / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return lock, number
    except OSError as error:
        raise SandboxUnavailable(
            f"No dedicated user can be taken: {error}. Pawl keeps its locks in {_LOCKS}."
        ) from error
    raise SandboxUnavailable(f"All {COUNT} dedicated users are taken by runs on this machine. Run fewer at once.")


@cache
def why_no_user() -> str:
    """Why no run can have a user of its own here; empty where it can."""
    if os.getuid() != 0:
        return "only root can hand one out"
    try:
        spans = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError as error:
        return str(error)
    if not any(start <= GROUP and start + length >= FIRST + COUNT for start, _, length in spans):
        return f"the ids {GROUP} to {FIRST + COUNT - 1} don't exist in this user namespace"
    try:
        with borrow_user():
            return ""
    except SandboxUnavailable as error:
        return str(error)


def closed_to_others(paths: Iterable[Path], user: int) -> list[Path]:
    """Folders above these paths that a user can't pass, outermost first."""
    found: set[Path] = set()
    for parent in {parent for path in paths for parent in path.parents}:
        try:
            status = parent.stat()
        except OSError:
            continue
        if not status.st_mode & (0o100 if status.st_uid == user else 0o001):
            found.add(parent)
    return sorted(found, key=lambda path: len(path.parts))


def closed_file(folder: Path) -> Path | None:
    """The first file or folder at or below a path that only its owner can read; not more than a thousand are tried."""
    waiting, tried = [folder], 0
    while waiting and tried < _TRIED:
        path = waiting.pop()
        tried += 1
        try:
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                if mode & 0o005 != 0o005:
                    return path
                waiting += sorted(path.iterdir())
            elif stat.S_ISREG(mode) and not mode & 0o004:
                return path
        except OSError:
            continue
    return None


def _give(path: Path, user: int) -> None:
    os.chown(path, user, user, follow_symlinks=False)
