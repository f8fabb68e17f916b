"""Jobs on machines that an engine chooses: the contract over anything that can start a program, say how it is, stop it.

    class Engine(Protocol):                     # all that one has to be
        def start(self, name, argv, job) -> str
        def state(self, number) -> EngineState
        def stop(self, number) -> None

What an engine runs is `python -m pawl.training.contained RUN_DIR ...`, which puts the trainer into the sandbox there
and keeps the record, as the local backend does here. The files tell how far a job is, and a beat beside the run dir
that it is alive; the engine is asked only where they don't say. So a controller, or an engine, that has forgotten
everything does no harm: a job is lost where the engine has none and the beat has stopped, and then goes on, by the
next `submit`, as another of the engine's jobs.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from ...core import BackendUnavailable, ConfigurationError, canonical_json
from ...core.artifacts import write_durably
from ...core.faults import point
from ...safety.sandbox import Limits
from ...safety.telemetry.jobs import job_environment
from ..attempt import DEATHS, MEMORY_SHARE, default_limits
from ..backend import JobHandle, wait_for
from ..contained import Errand
from ..datums import Datum
from ..job import JobState, JobStatus, TrainJob
from ..submission import Submission

STALE_SECONDS = 30.0
"""After so long without a beat nobody trains a job; a beat comes every two."""
GRACE_SECONDS = 300.0
"""So long a job that was asked to stop may take for the step that it is in, before its engine ends it."""
ASK_SECONDS = 1.0
"""How often an engine is asked at most."""


class EngineState(StrEnum):
    """What an engine says of one of its jobs."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    """However it ended."""
    UNKNOWN = "unknown"
    """It has no such job, or no longer."""


class Engine(Protocol):
    """Starts programs on machines of its choice. Every call raises `BackendUnavailable` where it can't be reached."""

    def start(self, name: str, argv: Sequence[str], job: TrainJob) -> str:
        """Start a program, and return what the engine calls this job.

        Args:
            name: of this job, new unless the same was asked before; an engine that has it does nothing.
            argv: the program, without the Python that runs it: `-P -m pawl.training.contained ...`.
            job: what it is for; says how many processes and threads it takes.
        """
        ...

    def state(self, number: str) -> EngineState:
        """How one of its jobs is."""
        ...

    def stop(self, number: str) -> None:
        """End a job; nothing happens where it has ended."""
        ...


class Ticket(BaseModel):
    """Which of its engine's jobs a training job is, kept beside its run dir."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    """How many times it was given to the engine."""
    number: str | None = None
    """What the engine calls it; none where the controller died before it was told."""
    starts: int = 0
    """The job's attempts when it was given to the engine,"""
    ends: int = 0
    """and those of them whose end was seen."""
    idle: int = 0
    """How often in a row the engine had ended it before an attempt began."""


class EngineBackend:
    """A `TrainerBackend` over an engine, whose machines see the run dirs at the same paths.

    Attributes:
        limits: of one attempt.
    """

    def __init__(
        self,
        runs: Path,
        engine: Engine,
        limits: Limits | None = None,
        *,
        memory_share: float | None = MEMORY_SHARE,
        stale_seconds: float = STALE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """Make a backend.

        Args:
            runs: folder of the run dirs, on a file system that the engine's machines share.
            engine: what starts programs.
            limits: of one attempt; `attempt.default_limits` where there are none.
            memory_share: of the memory of the machine that the engine chose, in the place of the limit on it, which
                says what this machine has; none keeps the limit.
            stale_seconds: after so long without a beat nobody trains a job; allows for clocks that differ.
            grace_seconds: how long a job that was asked to stop may go on before its engine ends it.
        """
        self.runs = runs.resolve()
        self.engine = engine
        self.limits = limits or default_limits()
        self._memory_share = memory_share
        self._stale, self._grace = stale_seconds, grace_seconds
        self._heard: dict[str, tuple[float, EngineState]] = {}

    def submit(self, job: TrainJob, datums: Sequence[Datum]) -> JobHandle:
        """See `TrainerBackend.submit`."""
        submission = Submission(self.runs / job.id)
        submission.lay_out(job, datums)
        handle = JobHandle(id=job.id, run_dir=submission.run.path)
        if self._told(submission).state in (JobState.SUCCEEDED, JobState.FAILED):
            return handle
        return self.resume(handle)

    def poll(self, handle: JobHandle) -> JobStatus:
        """See `TrainerBackend.poll`."""
        job = Submission(handle.run_dir)
        status = self._told(job)
        if self._beats(job):
            if job.asked_to_stop() and job.seconds_since_asked() > self._grace:
                self._end(job)
            still = {"state": JobState.RUNNING, "adapter": None}  # what it leaves isn't known before it has ended
            return status.model_copy(update=still) if status.state.finished else status
        if status.state.finished or self._heard_of(job) in (EngineState.QUEUED, EngineState.RUNNING):
            return status
        status = self._told(job)  # it may have ended between the two looks
        if status.state.finished:
            return status
        if job.asked_to_stop():
            job.run.write_status(status.model_copy(update={"state": JobState.CANCELLED}))
            return self._told(job)
        return status.model_copy(update={"state": JobState.LOST})

    def cancel(self, handle: JobHandle) -> None:
        """See `TrainerBackend.cancel`. A job that doesn't stop within the grace is ended by its engine."""
        job = Submission(handle.run_dir)
        if self.poll(handle).state.finished:
            return
        job.ask_to_stop()
        if not self._beats(job):  # it is queued, or about to begin: no step is under way
            self._end(job)
        self._heard.pop(job.id, None)

    def resume(self, handle: JobHandle) -> JobHandle:
        """See `TrainerBackend.resume`."""
        job = Submission(handle.run_dir)
        job.withdraw_stop()
        status = self._told(job)
        if status.state is JobState.SUCCEEDED or self._beats(job):
            return handle
        job.forget_stop()
        job.reopen()
        self._heard.pop(job.id, None)
        ticket = self._ticket(job)
        if ticket is None:
            self._start(job, Ticket(count=1))
        elif ticket.number is None:  # the controller died in the middle: the same once more
            self._start(job, ticket)
        elif status.state.finished:
            self._start(job, Ticket(count=ticket.count + 1))
        else:
            self._go_on(job, ticket, self.engine.state(ticket.number))
        return handle

    async def wait(self, handle: JobHandle, on_progress: Callable[[JobStatus], None] | None = None) -> JobStatus:
        """See `TrainerBackend.wait`."""
        return await wait_for(self, handle, on_progress)

    def _told(self, job: Submission) -> JobStatus:
        return job.status(self.limits.cpu_seconds)

    def _go_on(self, job: Submission, last: Ticket, state: EngineState) -> None:
        """Give a job that isn't finished to the engine once more, unless it has it, or nothing ever comes of it."""
        if state in (EngineState.QUEUED, EngineState.RUNNING):
            return
        record = job.record()
        began, seen = record.starts > last.starts, record.ends > last.ends
        idle = last.idle + 1 if state is EngineState.ENDED and not began else 0
        if began and not seen:  # what kept the record died with its trainer
            record = record.died(job.run.last_step())
            job.write(record)
        if idle >= DEATHS:
            job.run.fail(
                f"The engine ended the job {DEATHS} times before a trainer was started; its log of {last.number} may "
                f"say why. Expected there: Pawl, the run dir {job.run.path}, and a sandbox (`pawl doctor`)."
            )
        elif record.deaths >= DEATHS:
            job.run.fail(
                f"The trainer was lost with its machine {DEATHS} times in a row without finishing another step. The "
                f"engine's log of {last.number} may say why; where memory ran out, give it more, or smaller batches."
            )
        else:
            self._start(job, Ticket(count=last.count + 1, idle=idle))

    def _beats(self, job: Submission) -> bool:
        return job.seconds_since_beat() < self._stale

    def _start(self, job: Submission, ticket: Ticket) -> None:
        """Give the job to the engine; the ticket is written first, so that no start is forgotten."""
        record = job.record()
        ticket = ticket.model_copy(update={"starts": record.starts, "ends": record.ends})
        self._keep(job, ticket)
        point("training.ticket")
        errand = Errand(limits=self.limits, memory_share=self._memory_share, environment=job_environment(job.id))
        argv = ("-P", "-m", "pawl.training.contained", str(job.run.path), errand.model_dump_json())
        number = self.engine.start(f"{job.id}-{ticket.count}", argv, record.job)
        point("training.started")
        self._keep(job, ticket.model_copy(update={"number": number}))

    def _end(self, job: Submission) -> None:
        ticket = self._ticket(job)
        if ticket is not None and ticket.number is not None:
            with suppress(BackendUnavailable):  # the request to stop is in its run dir, for when it begins
                self.engine.stop(ticket.number)

    def _heard_of(self, job: Submission) -> EngineState:
        """What the engine said a moment ago; one that can't be reached trains nothing that anybody could tell."""
        at, state = self._heard.get(job.id, (-ASK_SECONDS, EngineState.UNKNOWN))
        if time.monotonic() - at < ASK_SECONDS:
            return state
        ticket = self._ticket(job)
        try:
            state = (
                self.engine.state(ticket.number)
                if ticket is not None and ticket.number is not None
                else EngineState.UNKNOWN
            )
        except BackendUnavailable:
            state = EngineState.UNKNOWN
        self._heard[job.id] = (time.monotonic(), state)
        return state

    def _ticket(self, job: Submission) -> Ticket | None:
        try:
            return Ticket.model_validate_json(job.beside(".engine.json").read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise ConfigurationError(
                f"{job.beside('.engine.json')} can't be used: expected the count and number of an engine's job. It may "
                "be of another version of Pawl; submit the job again under a new id."
            ) from error

    def _keep(self, job: Submission, ticket: Ticket) -> None:
        write_durably(job.beside(".engine.json"), canonical_json(ticket))
