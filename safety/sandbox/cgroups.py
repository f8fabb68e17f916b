"""Control groups, where Pawl may make one: a child group a run bounds its processes and memory, and counts its time.

    group = open_group(processes=16, memory=1 << 30)
    ...                     # the launcher writes itself into `group.descriptors` before the program starts
    group.killed()          # whether the kernel ended something for memory
    await group.remove()

Version 1 has a tree for each controller; version 2 has one, in which a group with processes can't hand controllers on.
There Pawl needs a group that was delegated to it, and moves itself into a leaf of it first.
"""

import asyncio
import contextlib
import itertools
import os
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CONTROLLERS = ("pids", "memory")
_COUNTER = "cpuacct"
"""A controller of version 1; in version 2 every group counts."""
_PREFIX, _OWN = "pawl-run-", "pawl-own"
_numbers = itertools.count()
ATTEMPTS = 100
"""Tries to remove a group, 2 ms longer apart each time: 10 s in all, for what ends slowly on a busy machine."""


@dataclass(frozen=True)
class Place:
    """Where one controller's child groups are made."""

    folder: Path
    version: int


@dataclass(frozen=True)
class Found:
    """The places of the controllers that can be used here, and why the others can't."""

    places: dict[str, Place]
    reasons: dict[str, str]


class Group:
    """The groups of one run."""

    def __init__(self, folders: dict[str, Path], descriptors: tuple[int, ...], version: int) -> None:
        self._folders = folders
        self.descriptors = descriptors
        """Each takes "0" from a process that joins; closed by `remove`."""
        self._version = version

    def killed(self) -> bool:
        """Whether the kernel ended a process of this group because the group's memory ran out."""
        if "memory" not in self._folders:
            return False
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        try:
            lines = (self._folders["memory"] / name).read_text().splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and int(line.split()[1]) > 0 for line in lines)

    def cpu_seconds(self) -> float:
        """CPU time of all that ever ran in the group, whether anything waited for it or not; 0 where nothing counts."""
        for folder in set(self._folders.values()):
            with contextlib.suppress(OSError):
                return int((folder / "cpuacct.usage").read_text()) / 1e9
            with contextlib.suppress(OSError):
                return int((folder / "cpu.stat").read_text().split()[1]) / 1e6
        return 0.0

    async def remove(self) -> None:
        """End what is left in the groups, and remove them, also where the caller is cancelled meanwhile."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        left = set(self._folders.values())
        cancelled: asyncio.CancelledError | None = None
        for attempt in range(ATTEMPTS):
            left = {folder for folder in left if not _removed(folder)}
            if not left:
                break
            try:  # something is still ending in it
                await asyncio.sleep(0.002 * (attempt + 1))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled


def open_group(*, processes: int, memory: int) -> Group | None:
    """Make the groups of one run, or none where no controller can be used.

    Args:
        processes: the most processes and threads.
        memory: the most bytes that they hold together, page cache that can't be given back included.
    """
    places = find().places
    if not places:
        return None
    name = f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    folders = {controller: place.folder / name for controller, place in places.items()}
    version = places["memory"].version if "memory" in places else 0
    descriptors: list[int] = []
    try:
        for folder in sorted(set(folders.values())):
            folder.mkdir()
            descriptors.append(os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        for controller, place in places.items():
            for file, value in _settings(controller, place.version, processes, memory):
                with contextlib.suppress(FileNotFoundError):  # swap's account may be off
                    (folders[controller] / file).write_text(value)
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        for folder in folders.values():
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return Group(folders, tuple(descriptors), version)


def _settings(controller: str, version: int, processes: int, memory: int) -> list[tuple[str, str]]:
    if controller == "pids":
        return [("pids.max", str(processes))]
    if controller == _COUNTER:
        return []
    if version == 1:
        return [("memory.limit_in_bytes", str(memory)), ("memory.memsw.limit_in_bytes", str(memory))]
    return [("memory.max", str(memory)), ("memory.swap.max", "0"), ("memory.oom.group", "1")]


@cache
def find() -> Found:
    """Look for controllers that this process may make child groups in; what a crash left behind is removed."""
    places: dict[str, Place] = {}
    reasons: dict[str, str] = {}
    for controller in (*_CONTROLLERS, _COUNTER):
        try:
            place = _place(controller)
            _sweep(place.folder)
            trial = place.folder / f"{_PREFIX}{os.getpid()}-trial-{controller}"
            trial.mkdir()
            try:
                for file, value in _settings(controller, place.version, 64, 1 << 30)[:1]:
                    (trial / file).write_text(value)
            finally:
                trial.rmdir()
        except OSError as error:
            where = Path(error.filename).parent if error.filename else None
            reasons[controller] = f"{error.strerror}: {where}" if where else str(error.strerror)
        else:
            places[controller] = place
    return Found(places, reasons)


def _place(controller: str) -> Place:
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for _, names, group in groups:
        if controller in names.split(","):
            for fields in mounts:
                kind = fields[fields.index("-") + 1]
                if kind == "cgroup" and controller in fields[-1].split(","):
                    return Place(_below(fields, group), 1)
    for _, names, group in groups:
        if not names:
            for fields in mounts:
                if fields[fields.index("-") + 1] == "cgroup2":
                    return Place(_delegated(_below(fields, group), controller), 2)
    raise OSError(0, f"no mounted hierarchy has the controller {controller}")


def _below(fields: list[str], group: str) -> Path:
    """Path of a group below its mount, which may show only a part of the hierarchy."""
    root, mount = fields[3], fields[4]
    return Path(mount) / os.path.relpath(group, root) if group.startswith(root) else Path(mount)


def _delegated(own: Path, controller: str) -> Path:
    """A folder of version 2 in which child groups have a controller.

    Raises:
        OSError: the controller isn't there, or the group isn't Pawl's alone.
    """
    folder = own.parent if own.name == _OWN else own
    given = (folder / "cgroup.controllers").read_text().split()
    if controller not in given:
        raise OSError(0, f"the group {folder} was not given the controller {controller}")
    control = folder / "cgroup.subtree_control"
    if controller in control.read_text().split():
        return folder
    present = {int(number) for number in (folder / "cgroup.procs").read_text().split()}
    if not present <= _family():
        raise OSError(0, f"the group {folder} holds other processes; run Pawl in a delegated scope of its own")
    leaf = folder / _OWN
    leaf.mkdir(exist_ok=True)
    for number in present:
        (leaf / "cgroup.procs").write_text(str(number))
    control.write_text(" ".join(f"+{name}" for name in _CONTROLLERS if name in given))
    return folder


def _family() -> set[int]:
    """This process and its descendants."""
    found, waiting = {os.getpid()}, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        for task in Path("/proc", str(pid), "task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = set(map(int, task.read_text().split())) - found
                found |= children
                waiting += children
    return found


def _sweep(folder: Path) -> None:
    """Remove the groups of controllers that were killed."""
    for left in folder.glob(f"{_PREFIX}*"):
        if not Path("/proc", left.name.removeprefix(_PREFIX).split("-")[0]).exists():
            with contextlib.suppress(OSError):  # it may be alive where other process ids are counted
                left.rmdir()


def _removed(folder: Path) -> bool:
    """Remove a group, or end what is in it."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        _kill_all(folder)
        return False
    return True


def _kill_all(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for number in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                os.kill(int(number), signal.SIGKILL)
