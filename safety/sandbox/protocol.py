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
    WATCH = "watch"
    """The controller's own eye on wall clock, output, scratch and memory, which ends the whole tree."""
    DEDICATED_USER = "dedicated-user"
    """A user id that this run alone has; only root can hand one out."""
    ORDINARY_USER = "ordinary-user"
    """Pawl's own user, who isn't root."""
    NAMESPACES = "namespaces"
    """bubblewrap: own mounts, pids, network, ipc."""
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"
    PIDS_CGROUP = "pids-cgroup"
    MEMORY_CGROUP = "memory-cgroup"


class Use(StrEnum):
    """What a program is run for; `rules.py` says what each use requires of a sandbox."""

    SCAFFOLD = "scaffold"
    KERNEL = "kernel"
    TRAINING = "training"
    FOREIGN_AGENT = "foreign_agent"
    """An agent that others wrote, as a whole."""
    FOREIGN_SCORER = "foreign_scorer"
    """A scorer that others wrote; it is given gold."""
    TRUSTED = "trusted"
    """Pawl's own code, for trials and measurements: requires nothing."""


class Limits(BaseModel):
    """What one run may take."""

    model_config = ConfigDict(frozen=True)

    wall_seconds: float = Field(default=60.0, gt=0)
    cpu_seconds: int = Field(default=60, ge=1)
    memory_bytes: int = 2 << 30
    """Address space (RLIMIT_AS) of each process; 0 leaves it unlimited (torch reserves far more than it uses)."""
    total_memory_bytes: int = Field(default=4 << 30, ge=1 << 20)
    """What all of its processes may hold together; no single one may hold more private memory (RLIMIT_DATA)."""
    file_bytes: int = 64 << 20
    """Size of each file that it writes (RLIMIT_FSIZE)."""
    scratch_bytes: int = Field(default=512 << 20, ge=1 << 12)
    """What its work folder and writable mounts may hold together, looked at several times a second."""
    processes: int = Field(default=64, ge=1)
    """Processes and threads."""
    output_bytes: int = 1 << 20
    """Cap on stdout and on stderr, each; what goes over ends the run."""


class Mount(BaseModel):
    """A host path that the program may see at the same path inside."""

    model_config = ConfigDict(frozen=True)

    path: Path
    writable: bool = False


class Loopback(BaseModel):
    """A port of the program's own network namespace that leads to a Unix socket, and nowhere else."""

    model_config = ConfigDict(frozen=True)

    socket: Path
    """The Unix socket, which is one of the mounts."""
    port: int = Field(default=8000, ge=1024, le=65535)
    """On 127.0.0.1 inside; every program has a network of its own, so the number may be the same for all."""


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
    loopback: Loopback | None = None
    """For programs that speak TCP alone. Refused by a sandbox without network namespace, where the port would be the
    host's."""
    own_tcp: bool = False
    """TCP between the program's own processes, on the loopback of its own network namespace, where nothing else is.
    Refused by a sandbox without one."""
    use: Use = Use.FOREIGN_AGENT
    """What it is run for. One that isn't named is held to the strictest rule."""
    nested: Limits | None = None
    """For the warm process of `warm.py` alone, which is Pawl's own: limits of each child that it forks and confines.

    Its argument vector is followed by the launcher's options for them. It may make namespaces where there are any.
    """


class Ending(StrEnum):
    """How a run ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    OUTPUT_LIMIT = "output_limit"
    """It printed more than `Limits.output_bytes`."""
    MEMORY_LIMIT = "memory_limit"
    """All of it together held more than `Limits.total_memory_bytes`."""
    SCRATCH_LIMIT = "scratch_limit"
    """It wrote more than `Limits.scratch_bytes`."""


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
    """CPU time of the program and of what it started."""


class Sandbox(Protocol):
    """Runs one command to its end, and leaves no process of it behind."""

    @property
    def layers(self) -> frozenset[Layer]:
        """The layers that are active for every run."""
        ...

    async def run(self, command: Command) -> Result:
        """Run a command; never raises for what the program does.

        Raises:
            SandboxUnavailable: a guarantee that the command's use requires is missing here, or the machine no longer
                offers what this sandbox needs; nothing was started.
        """
        ...
