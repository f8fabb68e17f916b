"""A job as its controller keeps it: the run dir laid out, and beside it, out of its trainer's reach, what counts.

runs/ID/             the run dir (`rundir`), the trainer's to write
jobs/ID.json         the job as it was submitted, its starts, deaths and bill (`record`)
jobs/ID.cancel       it was asked to stop
jobs/ID.alive        touched every few seconds by whoever trains it for an engine (`contained`); removed at the end
jobs/ID.lock         held by that process
jobs/ID.engine.json  which of an engine's jobs it is (`backends.engine`)
jobs/ID.work         scratch of the attempt that runs
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from ..core import Conflict, NotFound, PawlError, canonical_json, digest_bytes
from ..core.faults import point
from .datums import Datum, encode_datums
from .job import JobState, JobStatus, TrainJob
from .record import JobRecord, read_record, write_record
from .room import no_room
from .watched import WatchedRun


class Submission:
    """One submitted job, from outside the sandbox."""

    def __init__(self, run_dir: Path) -> None:
        self.run = WatchedRun(run_dir)

    @property
    def id(self) -> str:
        """The job's id, which names its files."""
        return self.run.path.name

    def beside(self, suffix: str) -> Path:
        """One of the job's files beside its run dir."""
        return self.run.path.parent.with_name("jobs") / f"{self.id}{suffix}"

    def lay_out(self, job: TrainJob, datums: Sequence[Datum]) -> None:
        """Write the run dir and the record of a job that is new; do nothing for the same one.

        Raises:
            Conflict: a job with this id has other settings or datums.
            PawlError: the disk is full.
        """
        data = encode_datums(datums)
        record = JobRecord(job=job, data_digest=digest_bytes(data), most_steps=job.most_steps(len(datums)))
        known = read_record(self.beside(".json"))
        if known is not None:
            _check_same(known, record)
            return
        try:
            self.run.submit(canonical_json(job), data)
            point("training.submit")
            write_record(self.beside(".json"), record)
        except OSError as error:
            if not no_room(error):
                raise
            raise PawlError(
                f"No room to submit the training job {job.id!r} in {self.run.path.parent}: {error.strerror}. "
                "Nothing was started; free some space and submit it again."
            ) from error
        point("training.submitted")

    def record(self) -> JobRecord:
        """The record.

        Raises:
            NotFound: no such job was submitted.
            ConfigurationError: the record is of another version of Pawl.
        """
        record = read_record(self.beside(".json"))
        if record is None:
            raise NotFound(f"No training job {self.id!r} in {self.run.path.parent}: submit it first.")
        return record

    def write(self, record: JobRecord) -> None:
        """Replace the record."""
        write_record(self.beside(".json"), record)

    def status(self, cpu_seconds: int) -> JobStatus:
        """What the trainer says of its job, but for what is known better: where its adapter is, and what it took.

        Args:
            cpu_seconds: what one start may take.
        """
        record, status = self.record(), self.run.status()
        adapter = self.run.adapter if status.state is JobState.SUCCEEDED else None
        return status.model_copy(update={"adapter": adapter, "usage": record.bill(status.usage, cpu_seconds)})

    def ask_to_stop(self) -> None:
        """Ask whoever trains it to stop after the step that it is in."""
        self.beside(".cancel").touch()
        self.run.request_cancel()

    def asked_to_stop(self) -> bool:
        """Whether somebody asked, which no trainer can make up."""
        return self.beside(".cancel").exists()

    def seconds_since_asked(self) -> float:
        """How long ago somebody asked; 0 where nobody did."""
        return self._age(".cancel", 0.0)

    def withdraw_stop(self) -> None:
        """Take back what was asked; a trainer that saw it before still leaves."""
        self.run.withdraw_cancel()

    def forget_stop(self) -> None:
        """Before a trainer starts: what an earlier one was asked, and no longer is, doesn't excuse this one."""
        if not (self.run.path / "cancel").exists():
            self.beside(".cancel").unlink(missing_ok=True)

    def reopen(self) -> None:
        """Let a job that was cancelled, or that failed, be trained again; what made it fail may be gone."""
        status = self.run.status()
        if status.state is JobState.FAILED:
            self.write(self.record().model_copy(update={"deaths": 0}))
        if status.state in (JobState.CANCELLED, JobState.FAILED):
            self.run.write_status(status.model_copy(update={"state": JobState.PENDING, "error": None}))

    def beat(self) -> None:
        """Say that it is being trained."""
        self.beside(".alive").touch()

    def end_beat(self) -> None:
        """Say that it is no longer."""
        self.beside(".alive").unlink(missing_ok=True)

    def seconds_since_beat(self) -> float:
        """How long ago it was last said that it is being trained; infinite where it isn't."""
        return self._age(".alive", float("inf"))

    def _age(self, suffix: str, absent: float) -> float:
        try:
            return time.time() - os.stat(self.beside(suffix)).st_mtime
        except FileNotFoundError:
            return absent


def _check_same(known: JobRecord, record: JobRecord) -> None:
    for what, same in (
        ("settings", known.job.digest == record.job.digest),
        ("datums", known.data_digest == record.data_digest),
    ):
        if not same:
            raise Conflict(
                f"The training job {record.job.id!r} was submitted before with other {what}. An id stands for one job: "
                "submit under a new one, or derive it from the settings and datums."
            )
