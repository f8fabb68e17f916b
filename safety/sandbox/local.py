"""The sandbox of this machine: `default_sandbox()` takes the strongest set of layers that works here, or refuses.

sandbox = default_sandbox()
result = await sandbox.run(Command(argv=("python3", "agent.py"), work=folder))
"""

import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ...core import SandboxUnavailable
from .isolation import LANDLOCK_ALONE, Isolation, bubblewrap, environment, landlock_abi, layers_of, wrap
from .process import run_process
from .protocol import Command, Layer, Result, Sandbox

_ADVICE = "Install bubblewrap (apt install bubblewrap), or run on Linux 6.12 or later with Landlock and seccomp."


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
        """The layers that are active for every run."""
        return layers_of(self.isolation)

    async def run(self, command: Command) -> Result:
        """Run a command to its end; never raises for what the program does.

        Raises:
            SandboxUnavailable: the program could not be confined, and was not started.
            ConfigurationError: a path of the command is relative, or it mounts more than one socket.
        """
        answer, tell = os.pipe()
        try:
            argv = wrap(command, self.isolation, tell)
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
        )
        if not confined.launched and confined.message:
            raise SandboxUnavailable(f"The program was not started: {confined.message}. {_ADVICE}")
        if not confined.launched and not _was_stopped(confined.result):
            words = confined.result.stderr.decode(errors="replace").strip()[-500:]
            raise SandboxUnavailable(f"The {self.isolation} sandbox did not start: {words or 'no reason'}. {_ADVICE}")
        return confined.result


def default_sandbox(isolation: Isolation | None = None) -> Sandbox:
    """The strongest sandbox that works on this machine.

    Args:
        isolation: take this set of layers and no other. `Isolation.NONE` is never chosen unless it is named here.

    Raises:
        SandboxUnavailable: no set works, or not the one that was named.
    """
    if isolation is not None:
        reason = why_not(isolation)
        if reason:
            raise SandboxUnavailable(f"No {isolation} sandbox here: {reason}. {_ADVICE}")
        return LocalSandbox(isolation)
    reasons: list[str] = []
    for candidate in (Isolation.BUBBLEWRAP, Isolation.LANDLOCK):
        reason = why_not(candidate)
        if not reason:
            return LocalSandbox(candidate)
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
    with tempfile.TemporaryDirectory(prefix="pawl-probe-") as folder:
        command = Command(argv=("/bin/sh", "-c", "exit 7"), work=Path(folder).resolve())
        answer, tell = os.pipe()
        try:
            trial = subprocess.run(
                wrap(command, isolation, tell),
                env=environment(command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=(tell,),
                start_new_session=True,
                timeout=20,
            )
            os.set_blocking(answer, False)
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
    refused = {isolation: why_not(isolation) for isolation in (Isolation.BUBBLEWRAP, Isolation.LANDLOCK)}
    chosen = next((isolation for isolation, reason in refused.items() if not reason), None)
    active = layers_of(chosen) if chosen else frozenset[Layer]()
    details = {
        Layer.NAMESPACES: refused[Isolation.BUBBLEWRAP] or f"bubblewrap at {bubblewrap()}",
        Layer.LANDLOCK: refused[Isolation.LANDLOCK] or f"version {landlock_abi()} of the kernel's interface",
        Layer.SECCOMP: "filter of system calls for x86-64",
        Layer.PROCESS_GROUP: "a session of its own, ended as a whole",
        Layer.EMPTY_ENVIRONMENT: "nothing is inherited",
        Layer.CLOSED_DESCRIPTORS: "nothing is inherited but stdin, stdout and stderr",
        Layer.RLIMITS: "memory, CPU, file size, open files, core"
        + (" (processes are not bounded for root)" if os.getuid() == 0 else ", processes"),
    }
    return [LayerReport(layer=layer, present=layer in active, detail=details[layer]) for layer in Layer]


def _was_stopped(result: Result) -> bool:
    """Whether a run was ended from outside, which may come before the launcher has answered."""
    return result.ending in {"timed_out", "output_limit"}
