"""The sandbox Protocol: how Pawl runs a program that it doesn't trust.

    result = await sandbox.run(Command(argv=("python3", "agent.py"), work=folder, mounts=(Mount(path=scaffold),)))

`default_sandbox()` picks the strongest implementation that this machine offers, and refuses when what
is left would be no sandbox.
"""

from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field


class Layer(StrEnum):
    """One independent means of isolation."""

    PROCESS_GROUP = "process-group"
    EMPTY_ENVIRONMENT = "empty-environment"
    CLOSED_DESCRIPTORS = "closed-descriptors"
    RLIMITS = "rlimits"
    NAMESPACES = "namespaces"
    """bubblewrap: own mounts, pids, network, ipc, users."""
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"


class Limits(BaseModel):
    """What one run may take."""

    model_config = ConfigDict(frozen=True)

    wall_seconds: float = Field(default=60.0, gt=0)
    cpu_seconds: int = Field(default=60, ge=1)
    memory_bytes: int = 2 << 30
    """Address space (RLIMIT_AS) of each process; 0 leaves it unlimited (torch reserves far more than it uses)."""
    file_bytes: int = 64 << 20
    processes: int = 64
    output_bytes: int = 1 << 20
    """Cap on stdout and on stderr, each; what goes over ends the run."""


class Mount(BaseModel):
    """A host path that the program may see at the same path inside."""

    model_config = ConfigDict(frozen=True)

    path: Path
    writable: bool = False


class Command(BaseModel):
    """One program to run in the sandbox.

    Paths inside equal paths outside, so that every implementation, with and without namespaces, means the same.
    The system's libraries and the running Python's environment are readable; nothing else is unless mounted.
    """

    model_config = ConfigDict(frozen=True)

    argv: tuple[str, ...]
    work: Path
    """Working directory: writable scratch of this run alone, also $HOME and $TMPDIR."""
    mounts: tuple[Mount, ...] = ()
    env: dict[str, str] = {}
    """The whole environment; nothing is inherited."""
    stdin: bytes = b""
    limits: Limits = Limits()


class Ending(StrEnum):
    """How a run ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    OUTPUT_LIMIT = "output_limit"


class Result(BaseModel):
    """What came of a run: data, whatever the program did."""

    model_config = ConfigDict(frozen=True)

    ending: Ending
    status: int
    """Exit status, or the signal's number for `SIGNALLED`."""
    stdout: bytes
    stderr: bytes
    wall_seconds: float
    cpu_seconds: float
    """CPU time of the program and the children it waited for."""


class Sandbox(Protocol):
    """Runs one command to its end, and leaves no process of it behind."""

    @property
    def layers(self) -> frozenset[Layer]:
        """The layers that are active for every run."""
        ...

    async def run(self, command: Command) -> Result:
        """Run a command; never raises for what the program does.

        Raises:
            SandboxUnavailable: the machine no longer offers what this sandbox needs.
        """
        ...
