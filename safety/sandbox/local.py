"""The sandbox of this machine: `default_sandbox()` takes the strongest set of layers that works here, or refuses.

sandbox = default_sandbox()
result = await sandbox.run(Command(argv=("python3", "agent.py"), work=folder, use=Use.SCAFFOLD))
"""

import contextlib
import os
import platform
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ...core import SandboxUnavailable
from ..telemetry import names, span
from . import cgroups
from .isolation import (
    LANDLOCK_ALONE,
    Isolation,
    bubblewrap,
    check_paths,
    environment,
    landlock_abi,
    layers_of,
    unreachable,
    wrap,
)
from .process import Confined, run_process
from .protocol import Command, Ending, Layer, Result, Sandbox, Use
from .rules import GET_A_SET, advice, missing
from .users import DedicatedUser, borrow_user, closed_file, why_no_user

_SETS = (Isolation.BUBBLEWRAP, Isolation.LANDLOCK)
_ADVICE = f"{GET_A_SET[0].upper()}{GET_A_SET[1:]}."


class LayerReport(BaseModel):
    """Whether one layer is active in the sandbox that `default_sandbox()` gives here, and why or why not."""

    model_config = ConfigDict(frozen=True)

    layer: Layer
    present: bool
    detail: str


class LocalSandbox:
    """Runs commands under one set of layers; see `default_sandbox`."""

    def __init__(self, isolation: Isolation) -> None:
        self.isolation = isolation

    @property
    def layers(self) -> frozenset[Layer]:
        """The layers that are active here; a run whose folders are closed to others goes without `DEDICATED_USER`."""
        found = layers_of(self.isolation)
        if os.getuid() != 0:
            found |= {Layer.ORDINARY_USER}
        if self.isolation is Isolation.NONE:
            return found
        if not why_no_user_under(self.isolation):
            found |= {Layer.DEDICATED_USER}
        bounded = cgroups.find().places
        if "pids" in bounded:
            found |= {Layer.PIDS_CGROUP}
        if "memory" in bounded:
            found |= {Layer.MEMORY_CGROUP}
        return found

    async def run(self, command: Command) -> Result:
        """Run a command to its end; never raises for what the program does.

        Raises:
            SandboxUnavailable: a guarantee that the command's use requires is missing, or the program could not be
                confined. It was not started.
            ConfigurationError: a path of the command is relative, or it mounts more than one socket.
        """
        check_paths(command)
        with contextlib.ExitStack() as held:
            user, why = self._choose_user(command, held)
            layers = self.layers if user is not None else self.layers - {Layer.DEDICATED_USER}
            lacking = missing(command.use, layers)
            if lacking:
                raise SandboxUnavailable(
                    f"The {self.isolation} sandbox can't promise this run: {', '.join(lacking)}; its use, "
                    f"{command.use}, requires that. {why}{advice(lacking)}."
                )
            writable = [
                command.work,
                *(mount.path for mount in command.mounts if mount.writable and mount.path.is_dir()),
            ]
            if user is not None:
                _hand_over(command, writable, user)
            try:
                with span("sandbox run", {names.USE: command.use}) as current:
                    result = await self._run(command, layers, user, writable)
                    current.set(names.ENDING, result.ending)
                    current.set(names.CPU_SECONDS, result.cpu_seconds)
                return result
            finally:
                if user is not None:
                    _take_back(writable)

    async def _run(
        self, command: Command, layers: frozenset[Layer], user: DedicatedUser | None, writable: Sequence[Path]
    ) -> Result:
        group = None
        if layers & {Layer.PIDS_CGROUP, Layer.MEMORY_CGROUP}:
            limits = command.limits
            try:
                group = cgroups.open_group(processes=limits.processes, memory=limits.total_memory_bytes)
            except OSError as error:
                raise SandboxUnavailable(f"No control group can be made any more: {error}.") from error
        descriptors = group.descriptors if group is not None else ()

        def killed() -> bool:  # a warm process ends the child at fault itself, and goes on
            return group is not None and command.nested is None and group.killed()

        try:
            answer, tell = os.pipe()
            try:
                argv = wrap(command, self.isolation, tell, user=user, groups=descriptors)
            except BaseException:
                os.close(answer)
                os.close(tell)
                raise
            confined = await run_process(
                argv,
                status=(answer, tell),
                env=environment(command),
                cwd=command.work,
                stdin=command.stdin,
                limits=command.limits,
                inherit=(*descriptors, *([user.lock] if user is not None else [])),
                user=None if user is None else user.id,
                writable=writable,
                out_of_memory=killed if Layer.MEMORY_CGROUP in layers else None,
            )
            over = group is not None and group.killed()
            counted = group.cpu_seconds() if group is not None else 0.0
        finally:
            if group is not None:
                await group.remove()
        result = self._checked(confined)
        result = result.model_copy(update={"cpu_seconds": max(result.cpu_seconds, counted)})
        return result.model_copy(update={"ending": Ending.MEMORY_LIMIT}) if over else result

    def _choose_user(self, command: Command, held: contextlib.ExitStack) -> tuple[DedicatedUser | None, str]:
        """A user of its own where one can be had for this run, else why not."""
        if Layer.DEDICATED_USER not in self.layers:
            return None, ""
        user = held.enter_context(borrow_user())
        closed = unreachable(command, self.isolation, user) or [
            path
            for mount in command.mounts
            if not mount.writable
            for path in [closed_file(mount.path)]
            if path is not None
        ]
        if closed:
            return None, f"A user of its own couldn't read {closed[0]} (chmod o+rX lets it). "
        return user, ""

    def _checked(self, confined: Confined) -> Result:
        if not confined.launched and confined.message:
            raise SandboxUnavailable(f"The program was not started: {confined.message}. {_ADVICE}")
        if not confined.launched and not _was_stopped(confined.result):
            words = confined.result.stderr.decode(errors="replace").strip()[-500:]
            raise SandboxUnavailable(f"The {self.isolation} sandbox did not start: {words or 'no reason'}. {_ADVICE}")
        return confined.result


def default_sandbox(isolation: Isolation | None = None) -> Sandbox:
    """The strongest sandbox that works on this machine.

    Args:
        isolation: take this set of layers and no other. `Isolation.NONE` is never chosen unless it is named here, and
            runs nothing but what is marked `Use.TRUSTED`.

    Raises:
        SandboxUnavailable: no set works, or not the one that was named.
    """
    if isolation is not None:
        reason = why_not(isolation)
        if reason:
            raise SandboxUnavailable(f"No {isolation} sandbox here: {reason}. {_ADVICE}")
        return LocalSandbox(isolation)
    reasons: list[str] = []
    for candidate in _SETS:
        reason = why_not(candidate)
        if not reason:
            sandbox = LocalSandbox(candidate)
            lacking = missing(Use.SCAFFOLD, sandbox.layers)
            if not lacking:
                return sandbox
            reason = f"it can't promise: {', '.join(lacking)}. {advice(lacking)}"
        reasons.append(f"{candidate}: {reason}")
    raise SandboxUnavailable(f"This machine offers no sandbox ({'; '.join(reasons)}). {_ADVICE}")


@cache
def why_not(isolation: Isolation) -> str:
    """Why a set of layers can't be used here; empty where a trial run under it succeeds."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "the filter of system calls is written for Linux on x86-64"
    if isolation is Isolation.BUBBLEWRAP and bubblewrap() is None:
        return "bwrap is not on the PATH"
    if isolation is Isolation.LANDLOCK and landlock_abi() < LANDLOCK_ALONE:
        return f"the kernel's Landlock is version {landlock_abi()}, and {LANDLOCK_ALONE} or later is needed"
    if isolation is not Isolation.NONE and not why_no_user_under(isolation):
        return ""
    return _trial(isolation, dedicated=False)


@cache
def why_no_user_under(isolation: Isolation) -> str:
    """Why runs under a set of layers have no user of their own here; empty where they have one."""
    return why_no_user() or _trial(isolation, dedicated=True)


def _trial(isolation: Isolation, *, dedicated: bool) -> str:
    """Run a shell under a set of layers; empty where it answers as it must, else what went wrong."""
    with tempfile.TemporaryDirectory(prefix="pawl-probe-") as folder, contextlib.ExitStack() as held:
        command = Command(argv=("/bin/sh", "-c", "exit 7"), work=Path(folder).resolve())
        user = held.enter_context(borrow_user()) if dedicated else None
        if user is not None:
            user.own(command.work)
            closed = unreachable(command, isolation, user)
            if closed:
                return f"it couldn't pass {', '.join(map(str, closed))} to its programs"
        answer, tell = os.pipe()
        said = b""
        try:
            trial = subprocess.run(
                wrap(command, isolation, tell, user=user),
                env=environment(command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=(tell,),
                start_new_session=True,
                timeout=20,
            )
            os.set_blocking(answer, False)
            with contextlib.suppress(BlockingIOError):
                said = os.read(answer, 4096)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        finally:
            os.close(answer)
            os.close(tell)
    if said.startswith(b"ok 1792 "):  # the wait status of exit(7)
        return ""
    return (said or trial.stderr).decode(errors="replace").strip()[-300:] or f"its trial run ended {trial.returncode}"


def probe() -> Sequence[LayerReport]:
    """What `pawl doctor` shows: every layer, whether the default sandbox has it, and why or why not."""
    refused = {isolation: why_not(isolation) for isolation in _SETS}
    chosen = next((isolation for isolation, reason in refused.items() if not reason), None)
    active = LocalSandbox(chosen).layers if chosen else frozenset[Layer]()
    bounds = cgroups.find()
    root = os.getuid() == 0
    details = {
        Layer.NAMESPACES: refused[Isolation.BUBBLEWRAP] or f"bubblewrap at {bubblewrap()}",
        Layer.LANDLOCK: refused[Isolation.LANDLOCK] or f"version {landlock_abi()} of the kernel's interface",
        Layer.SECCOMP: "filter of system calls for x86-64",
        Layer.PROCESS_GROUP: "a session of its own, ended as a whole",
        Layer.EMPTY_ENVIRONMENT: "nothing is inherited",
        Layer.CLOSED_DESCRIPTORS: "nothing is inherited but stdin, stdout and stderr",
        Layer.RLIMITS: "memory, CPU, file size, open files, core, processes (which binds any user but root)",
        Layer.WATCH: "wall clock, output, scratch, and memory where no cgroup bounds it",
        Layer.DEDICATED_USER: (why_no_user_under(chosen) if chosen else why_no_user()) or "one user id a run",
        Layer.ORDINARY_USER: "Pawl runs as root" if root else f"Pawl runs as user {os.getuid()}",
        Layer.PIDS_CGROUP: bounds.reasons.get("pids", "a group a run"),
        Layer.MEMORY_CGROUP: bounds.reasons.get("memory", "a group a run"),
    }
    return [LayerReport(layer=layer, present=layer in active, detail=details[layer]) for layer in Layer]


def _hand_over(command: Command, writable: Sequence[Path], user: DedicatedUser) -> None:
    """Give a run's user what it may write, and let it reach what else it is given."""
    for mount in command.mounts:
        try:
            mode = mount.path.stat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISSOCK(mode):
            user.share(mount.path)
    if command.loopback is not None:
        user.share(command.loopback.socket)
    for folder in writable:
        user.own(folder)


def _take_back(folders: Sequence[Path]) -> None:
    """So that whoever has the same user id later finds the folders closed or another's."""
    for folder in folders:
        with contextlib.suppress(OSError):
            os.chown(folder, 0, 0, follow_symlinks=False)


def _was_stopped(result: Result) -> bool:
    """Whether a run was ended from outside, which may come before the launcher has answered."""
    return result.ending not in {Ending.EXITED, Ending.SIGNALLED}
