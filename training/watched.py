"""A run dir as the controller sees it: written by a trainer that it doesn't trust, and may be anything.

No read follows a link, waits, or takes more than its limit; what can't be believed is not there.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core import canonical_json
from ..core.artifacts import write_durably
from ..safety.sandbox import read_result
from .job import JobState, JobStatus, read_status

_LIST_BYTES = 1 << 24
_LAST_LINES = 4
"""A torn last line hides no more than itself."""


class _Listed(BaseModel):
    """One line of `checkpoints.jsonl`."""

    model_config = ConfigDict(frozen=True, strict=True)

    step: int = Field(ge=0)


class WatchedRun:
    """One job's run dir, from outside the sandbox."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def adapter(self) -> Path:
        """Folder of the finished adapter, whatever is there."""
        return self.path / "adapter"

    def submit(self, job: bytes, data: bytes) -> None:
        """Lay out the dir of a job that was never started."""
        (self.path / "rollouts").mkdir(parents=True, exist_ok=True)
        write_durably(self.path / "rollouts" / "datums.jsonl", data)
        self.write_status(JobStatus(state=JobState.PENDING))
        write_durably(self.path / "job.json", job)

    def status(self) -> JobStatus:
        """What the trainer says last; that the job failed, where it says nothing that can be."""
        status = read_status(self.path)
        if status is None or status.state is JobState.LOST:
            return JobStatus(
                state=JobState.FAILED,
                error=f"status.json of the training job {self.path.name} is missing or no status of a trainer: "
                "something broke it. Train again under a new id.",
            )
        return status

    def write_status(self, status: JobStatus) -> None:
        """Replace the status; where the trainer put a folder in its way, what is there is no status anyway."""
        with suppress(OSError):
            write_durably(self.path / "status.json", canonical_json(status))

    def fail(self, error: str) -> None:
        """Record that the job won't be finished, and why."""
        self.write_status(self.status().failed(error))

    def request_cancel(self) -> None:
        """Ask the trainer to stop."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with suppress(OSError):  # whatever is in the way is there
            os.close(os.open(self.path / "cancel", flags, 0o644))

    def withdraw_cancel(self) -> None:
        """Take back what was asked."""
        with suppress(OSError):  # none there, or what the trainer put in its way
            (self.path / "cancel").unlink()

    def is_held(self) -> bool:
        """Whether a living process trains this job now."""
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def last_step(self) -> int:
        """The step of the newest checkpoint, as the trainer lists it."""
        lines = (read_result(self.path, "checkpoints.jsonl", _LIST_BYTES) or b"").splitlines()
        for line in reversed(lines[-_LAST_LINES:]):
            with suppress(ValidationError):
                return _Listed.model_validate_json(line).step
        return 0
