"""A job's course through its run dir: where it begins, what each step leaves behind, and how it ends.

course = Course(run, job, run.data_digest())
course.begin(total)
while course.step < total and not course.cancelled:
    course.stepped(metrics, consumed, write)     # `write` fills a checkpoint's folder
status = course.end(write_adapter)
"""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..core import ConfigurationError, Usage
from ..safety.telemetry.jobs import SPANS, JobSpan, JobSpans
from .job import JobState, JobStatus, TrainJob
from .rundir import Progress, RunDir, publish

Write = Callable[[Path], None]


class Course:
    """One process's work on a job, from its last complete checkpoint on.

    Attributes:
        checkpoint: folder of that checkpoint, or none.
        step: optimiser steps done.
        metrics: of the last step that this process did.
    """

    def __init__(
        self, run: RunDir, job: TrainJob, data_digest: str, spans: JobSpans | None = None, *, leads: bool = True
    ) -> None:
        """Find where to go on.

        Args:
            run: the run dir.
            job: its job.
            data_digest: of its datums.
            spans: takes the times of the parts.
            leads: whether this process writes; of several that train one job, one does.

        Raises:
            ConfigurationError: the checkpoint is of another job, of other data or of another base model.
        """
        self.run, self.job, self.leads = run, job, leads
        self.spans = spans or JobSpans(run.path / SPANS, {})
        self.checkpoint: Path | None = None
        self.step = 0
        self.metrics: dict[str, float] = {}
        self._data_digest = data_digest
        self._total = 0
        self._before = 0.0
        found = run.last_checkpoint()
        if found is not None:
            self.checkpoint, progress = found
            self._check_same(progress)
            self.step, self._before = progress.step, progress.cpu_seconds

    @property
    def cancelled(self) -> bool:
        """Whether the job is to stop before its next step."""
        return self.step < self._total and self.run.cancel_request.exists()

    def begin(self, total: int) -> None:
        """Drop what will be done again, and say that the job runs.

        Args:
            total: optimiser steps of the whole job.
        """
        self._total = total
        if self.leads:
            self.run.truncate_metrics(self.step)
        self._say(JobState.RUNNING)

    def stepped(self, metrics: Mapping[str, float], consumed: int, write: Write) -> None:
        """Record an optimiser step: its metrics, a checkpoint where one is due, the heartbeat.

        Args:
            metrics: of the step.
            consumed: datums seen so far, counted once an epoch.
            write: fills the folder of a checkpoint.
        """
        self.metrics = dict(metrics)
        self.step += 1
        if not self.leads:
            return
        self.run.append_metrics(self.step - 1, self.metrics)
        if self.step % self.job.checkpoint_every == 0 or self.step == self._total:
            progress = Progress(
                step=self.step,
                consumed=consumed,
                seed=self.job.seed,
                job_digest=self.job.digest,
                data_digest=self._data_digest,
                base_digest=self.job.base_digest,
                cpu_seconds=self._cpu_seconds(),
            )
            with self.spans.span(JobSpan.CHECKPOINT, step=self.step), self.run.new_checkpoint(progress) as folder:
                write(folder)
        self._say(JobState.RUNNING)

    def end(self, write: Write) -> JobStatus:
        """Publish the adapter, or say that the job was cancelled where steps are left.

        Args:
            write: makes the folder of the adapter and fills it.
        """
        if self.step < self._total:
            return self._say(JobState.CANCELLED)
        if not self.leads:
            return self._say(JobState.SUCCEEDED)
        temporary = self.run.path / ".tmp-adapter"
        for leftover in (temporary, self.run.adapter):
            shutil.rmtree(leftover, ignore_errors=True)
        write(temporary)
        publish(temporary, self.run.adapter)
        return self._say(JobState.SUCCEEDED, self.run.adapter)

    def _say(self, state: JobState, adapter: Path | None = None) -> JobStatus:
        status = JobStatus(
            state=state,
            step=self.step,
            total_steps=self._total,
            metrics=self.metrics,
            adapter=adapter,
            usage=Usage(training_steps=self.step, cpu_seconds=self._cpu_seconds()),
        )
        if self.leads:
            self.run.write_status(status)
        return status

    def _cpu_seconds(self) -> float:
        return round(self._before + time.process_time(), 3)

    def _check_same(self, progress: Progress) -> None:
        for what, found, wanted in (
            ("job", progress.job_digest, self.job.digest),
            ("datums", progress.data_digest, self._data_digest),
            ("base model", progress.base_digest, self.job.base_digest),
        ):
            if found != wanted:
                raise ConfigurationError(
                    f"The checkpoint at step {progress.step} belongs to another {what} ({found[:12]}, here "
                    f"{wanted[:12]}). Submit the job under a new id."
                )
