"""The run dir: the whole contract between a trainer and whoever started it, in files. `RunDir` is the trainer's view.

job.json             the TrainJob, written last at submission
rollouts/*.jsonl     datums, read in the order of the names
step_N/              adapter/, optimizer.safetensors, optimizer.json, state.json; written apart, then renamed
checkpoints.jsonl    one line a complete step_N, appended after the rename
metrics.jsonl        one line an optimiser step
status.json          JobStatus, replaced after every step
spans.jsonl          times of the job's parts, where whoever started it keeps a trace
adapter/             the result
critic/              the value head, where one was trained
lock                 held (flock) by the process that trains
cancel               its presence asks the trainer to stop

Whoever started it reads it by `watched.WatchedRun`, and keeps what counts in a `record.JobRecord`.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from ..core import ConfigurationError, NotFound, canonical_json
from ..core.artifacts import write_durably
from ..core.faults import point
from .datums import Datum, read_datums
from .job import JobState, JobStatus, TrainJob, read_status

KEPT_CHECKPOINTS = 2


class Progress(BaseModel):
    """`state.json` of a checkpoint: where to go on. Every random draw derives from the seed and the step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    step: int
    """Optimiser steps done."""
    consumed: int
    """Datums seen, counted once an epoch."""
    seed: int
    job_digest: str
    data_digest: str
    base_digest: str
    cpu_seconds: float
    """CPU time spent until here, over all processes."""


class RunDir:
    """One job's folder, as its trainer uses it: in the sandbox, where it may trust what it wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def rollouts(self) -> Path:
        """Folder of the datums."""
        return self.path / "rollouts"

    @property
    def adapter(self) -> Path:
        """Folder of the finished adapter."""
        return self.path / "adapter"

    @property
    def critic(self) -> Path:
        """Folder of the finished value head; there before the adapter is, where the objective has one."""
        return self.path / "critic"

    @property
    def cancel_request(self) -> Path:
        """File whose presence asks the trainer to stop."""
        return self.path / "cancel"

    def job(self) -> TrainJob:
        """The job.

        Raises:
            NotFound: there is no job.json.
            ConfigurationError: it is not one of this version of Pawl.
        """
        try:
            text = (self.path / "job.json").read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"No job.json in {self.path}: expected a run dir; submit the job first.") from error
        try:
            return TrainJob.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "job"
            raise ConfigurationError(
                f"job.json in {self.path.name} can't be used: {where}: {first['msg']}. "
                "It may be of another version of Pawl; submit the job again under a new id."
            ) from error

    def datums(self) -> list[Datum]:
        """Every datum, in the order of the files' names.

        Raises:
            ConfigurationError: a line is no datum.
        """
        return [datum for path in sorted(self.rollouts.glob("*.jsonl")) for datum in read_datums(path)]

    def data_digest(self) -> str:
        """SHA-256 over the bytes of the datums."""
        digest = hashlib.sha256()
        for path in sorted(self.rollouts.glob("*.jsonl")):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def status(self) -> JobStatus | None:
        """The last status that was written, whoever wrote it and whether or not they live."""
        return read_status(self.path)

    def write_status(self, status: JobStatus) -> None:
        """Replace the status."""
        write_durably(self.path / "status.json", canonical_json(status))

    def append_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one step's line."""
        line: dict[str, JsonValue] = {"step": step, **metrics}
        with (self.path / "metrics.jsonl").open("ab") as file:
            file.write(canonical_json(line) + b"\n")
        point("training.stepped")

    def truncate_metrics(self, steps: int) -> None:
        """Drop the lines of steps that will be done again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            write_durably(path, b"".join(lines[:steps]))

    def last_checkpoint(self) -> tuple[Path, Progress] | None:
        """The newest checkpoint that is complete, or none.

        Raises:
            ConfigurationError: it is of another version of Pawl.
        """
        for line in reversed(self._listed()):
            with suppress(ValueError, KeyError, FileNotFoundError, TypeError):
                folder = self.path / f"step_{int(json.loads(line)['step'])}"
                state = (folder / "state.json").read_bytes()
                break
        else:
            return None
        try:
            return folder, Progress.model_validate_json(state)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "state"
            raise ConfigurationError(
                f"state.json of the checkpoint {folder.name} can't be used: {where}: {first['msg']}. It may be of "
                "another version of Pawl: resume the job with that one, or submit it again under a new id."
            ) from error

    @contextmanager
    def new_checkpoint(self, progress: Progress) -> Generator[Path]:
        """A folder to write a checkpoint's files to; renamed and listed when the block ends without an error."""
        temporary = self.path / f".tmp-step_{progress.step}"
        final = self.path / f"step_{progress.step}"
        for leftover in (temporary, final):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        point("training.checkpoint")
        (temporary / "state.json").write_bytes(canonical_json(progress))
        publish(temporary, final)
        point("training.renamed")
        line = canonical_json({"step": progress.step, "consumed": progress.consumed})
        with (self.path / "checkpoints.jsonl").open("ab+") as file:
            if file.tell():  # a line that was cut short, for want of room or by a death, hides no other
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        for line in self._listed()[:-KEPT_CHECKPOINTS]:
            with suppress(ValueError, KeyError, TypeError):
                shutil.rmtree(self.path / f"step_{int(json.loads(line)['step'])}", ignore_errors=True)

    def _listed(self) -> list[bytes]:
        try:
            return (self.path / "checkpoints.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []

    @contextmanager
    def lock(self) -> Generator[None]:
        """Wait until no other process trains this job, then hold it; the system frees it when the process dies."""
        with (self.path / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def drop_unfinished(self) -> None:
        """Give back the room of what was being written when the job stopped."""
        for path in self.path.glob(".tmp-*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def fail(self, error: str) -> JobStatus:
        """Record that the job won't be finished, and why."""
        status = (self.status() or JobStatus(state=JobState.PENDING)).failed(error)
        self.write_status(status)
        return status


def publish(temporary: Path, final: Path) -> None:
    """Make a finished folder appear at once: sync its files, rename it, sync its parent."""
    for path in [*sorted(temporary.rglob("*")), temporary]:
        _sync(path)
    os.rename(temporary, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
