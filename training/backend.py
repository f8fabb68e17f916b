"""Backends: who runs `python -m pawl.training RUN_DIR`, and where.

    backend = LocalBackend(home.runs, default_sandbox())
    handle = backend.submit(job, datums)          # the same id attaches; a lost job is resumed
    status = await backend.wait(handle, print)
    files = adapter_files(status)                 # bytes, for the artefact store

The run dir is the truth of how far a job is: `poll` reads its files, and its lock tells whether anybody still trains,
so that a controller that was killed finds the job again by submitting it again. It is also the trainer's to write, so
what the job is, and what it took, is kept beside it (`record`).
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from ..core import ConfigurationError, Conflict, NotFound, canonical_json, digest_bytes
from ..core.faults import point
from ..safety.sandbox import Command, Ending, Limits, Mount, Result, Sandbox, Use, read_result
from ..safety.sandbox.tensors import parse_safetensors
from ..safety.sandbox.trees import remove_tree
from ..safety.sandbox.untrusted import parse_untrusted
from ..safety.sandbox.watch import share_of_memory
from ..safety.telemetry.jobs import job_environment
from .datums import Datum, encode_datums
from .job import JobState, JobStatus, TrainJob
from .record import JobRecord, read_record, write_record
from .watched import WatchedRun

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_CONFIG_BYTES, _WEIGHTS_BYTES = 1 << 20, 4 << 30
POLL_SECONDS = 0.1

DEATHS = 3
"""How often a trainer may die at one checkpoint before its job counts as failed."""


class JobHandle(BaseModel):
    """What finds a job again, in any process."""

    model_config = ConfigDict(frozen=True)

    id: str
    run_dir: Path


class TrainerBackend(Protocol):
    """Runs training jobs; every backend works on the same run dirs."""

    def submit(self, job: TrainJob, datums: Sequence[Datum]) -> JobHandle:
        """Start a job, attach to it if it runs, resume it if it was lost or cancelled, else do nothing.

        Raises:
            Conflict: a job with this id has other settings or datums.
        """
        ...

    def poll(self, handle: JobHandle) -> JobStatus:
        """Where the job stands.

        Raises:
            NotFound: there is no such job.
        """
        ...

    def cancel(self, handle: JobHandle) -> None:
        """Ask the job to stop after the step it is in; `submit` and `resume` go on from there."""
        ...

    def resume(self, handle: JobHandle) -> JobHandle:
        """Start a lost or cancelled job again at its last complete step."""
        ...

    async def wait(self, handle: JobHandle, on_progress: Callable[[JobStatus], None] | None = None) -> JobStatus:
        """Return the status once the job is finished or lost; `on_progress` sees each one that differs."""
        ...


class LocalBackend:
    """Subprocesses of this machine, one a job, in the sandbox.

    `submit` and `resume` need a running event loop; a job dies with the process that holds it, and the next
    `submit` of the same job goes on from its last step.
    """

    def __init__(self, runs: Path, sandbox: Sandbox, limits: Limits | None = None) -> None:
        """Make a backend.

        Args:
            runs: folder of the run dirs.
            sandbox: what the subprocesses run in.
            limits: of one subprocess; by default an hour, without a cap on address space, and three quarters of the
                machine's memory.
        """
        self.runs = runs.resolve()
        self.sandbox = sandbox
        self.limits = limits or Limits(
            wall_seconds=3600,
            cpu_seconds=7200,
            memory_bytes=0,
            total_memory_bytes=share_of_memory(0.75),
            file_bytes=4 << 30,
            scratch_bytes=32 << 30,
            processes=512,
        )
        self._asked: set[str] = set()
        """Jobs that were asked to stop."""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def submit(self, job: TrainJob, datums: Sequence[Datum]) -> JobHandle:
        """See `TrainerBackend.submit`."""
        run = WatchedRun(self.runs / job.id)
        data = encode_datums(datums)
        record = JobRecord(job=job, data_digest=digest_bytes(data), most_steps=job.most_steps(len(datums)))
        known = read_record(self._record(run))
        if known is None:
            run.submit(canonical_json(job), data)
            point("training.submit")
            write_record(self._record(run), record)
            point("training.submitted")
        else:
            _check_same(known, record)
        return self.resume(JobHandle(id=job.id, run_dir=run.path))

    def poll(self, handle: JobHandle) -> JobStatus:
        """See `TrainerBackend.poll`."""
        run = WatchedRun(handle.run_dir)
        status = self._told(run)
        if self._is_mine(handle):  # what it takes, and what it leaves, is not known before it has ended
            still = {"state": JobState.RUNNING, "adapter": None}
            return status.model_copy(update=still) if status.state.finished else status
        if status.state.finished or run.is_held():
            return status
        status = self._told(run)  # it may have ended between the two looks
        return status if status.state.finished else status.model_copy(update={"state": JobState.LOST})

    def cancel(self, handle: JobHandle) -> None:
        """See `TrainerBackend.cancel`."""
        run = WatchedRun(handle.run_dir)
        status = self.poll(handle)
        if status.state.finished:
            return
        self._asked.add(handle.id)
        run.request_cancel()
        if status.state is JobState.LOST:
            run.write_status(status.model_copy(update={"state": JobState.CANCELLED}))

    def resume(self, handle: JobHandle) -> JobHandle:
        """See `TrainerBackend.resume`."""
        run = WatchedRun(handle.run_dir)
        status = self._told(run)
        run.withdraw_cancel()
        mine = self._is_mine(handle)
        if not mine:
            self._asked.discard(handle.id)
        if status.state is JobState.CANCELLED:
            run.write_status(status.model_copy(update={"state": JobState.PENDING}))
            self._start(handle, run)
        elif not mine:
            self._start(handle, run)
        return handle

    async def wait(self, handle: JobHandle, on_progress: Callable[[JobStatus], None] | None = None) -> JobStatus:
        """See `TrainerBackend.wait`."""
        seen: JobStatus | None = None
        while True:
            status = self.poll(handle)
            if on_progress is not None and status != seen:
                on_progress(status)
            seen = status
            if status.state.finished or status.state is JobState.LOST:
                return status
            await asyncio.sleep(POLL_SECONDS)

    def _is_mine(self, handle: JobHandle) -> bool:
        task = self._tasks.get(handle.id)
        return task is not None and not task.done()

    def _start(self, handle: JobHandle, run: WatchedRun) -> None:
        if not self._told(run).state.finished:
            task = self._run(run, after=self._tasks.get(handle.id))
            self._tasks[handle.id] = asyncio.get_running_loop().create_task(task, name=f"train {handle.id}")

    async def _run(self, run: WatchedRun, after: "asyncio.Task[None] | None") -> None:
        if after is not None:  # a cancelled trainer may still be leaving
            await asyncio.wait([after])
        record = self._known(run).started()
        write_record(self._record(run), record)
        work = self._record(run).with_suffix(".work")
        try:
            await asyncio.to_thread(remove_tree, work)  # what a start left whose controller was killed
            work.mkdir(mode=0o700)
            result = await self.sandbox.run(self._command(run, record.job, work))
        except Exception as error:
            write_record(self._record(run), record.ended(0.0))
            run.fail(f"The trainer could not be started: {error}")
            return
        finally:
            await asyncio.to_thread(remove_tree, work)
        record = record.ended(result.cpu_seconds)
        asked = run.path.name in self._asked
        error = None
        if not _is_final(run.status(), result, asked=asked):
            error = _why(result)
            record = record if error is not None else record.died(run.last_step())
            if error is None and record.deaths >= DEATHS:
                error = (
                    f"The trainer was ended by {_ended_by(result)} {DEATHS} times in a row without finishing another "
                    f"step. {_ADVICE.get(result.status, '') or _tail(result)}".strip()
                )
        write_record(self._record(run), record)
        if error is not None:
            run.fail(error)

    def _record(self, run: WatchedRun) -> Path:
        return self.runs.with_name("jobs") / f"{run.path.name}.json"

    def _known(self, run: WatchedRun) -> JobRecord:
        record = read_record(self._record(run))
        if record is None:
            raise NotFound(f"No training job {run.path.name!r} in {run.path.parent}: submit it first.")
        return record

    def _told(self, run: WatchedRun) -> JobStatus:
        """What the trainer says of its job, but for what is known better: where its adapter is, and what it took."""
        record, status = self._known(run), run.status()
        adapter = run.adapter if status.state is JobState.SUCCEEDED else None
        usage = record.bill(status.usage, self.limits.cpu_seconds)
        return status.model_copy(update={"adapter": adapter, "usage": usage})

    def _command(self, run: WatchedRun, job: TrainJob, work: Path) -> Command:
        readable = [job.base_model_dir, *(path for path in (job.init_adapter, job.init_critic) if path)]
        return Command(
            argv=(sys.executable, "-P", "-m", "pawl.training", str(run.path)),
            work=work,
            mounts=(Mount(path=run.path, writable=True), *(Mount(path=path.absolute()) for path in readable)),
            env={
                "OMP_NUM_THREADS": str(job.threads),
                "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin at a barrier starve whoever shares the processor
                "HF_HUB_OFFLINE": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONHASHSEED": "0",
                "TQDM_DISABLE": "1",
                **job_environment(job.id),
            },
            limits=self.limits,
            use=Use.TRAINING,
        )


def adapter_files(status: JobStatus) -> dict[str, bytes]:
    """The bytes of a finished job's adapter, as a file tree for the artefact store.

    Raises:
        ConfigurationError: the job has no adapter, or what is there is not two plain files.
    """
    folder = status.adapter
    if status.state is not JobState.SUCCEEDED or folder is None:
        raise ConfigurationError(
            f"The job is {status.state}: expected one that succeeded. {status.error or ''}".strip()
        )
    found = _listed(folder)
    if found != sorted(ADAPTER_FILES):
        raise ConfigurationError(f"The adapter's folder holds {found}: expected {', '.join(ADAPTER_FILES)}.")
    files: dict[str, bytes] = {}
    for name, limit in zip(ADAPTER_FILES, (_CONFIG_BYTES, _WEIGHTS_BYTES), strict=True):
        data = read_result(folder.parent, f"{folder.name}/{name}", limit)
        if data is None:
            raise ConfigurationError(f"{name} of the adapter is no plain file of at most {limit} bytes.")
        files[name] = data
    try:
        config = parse_untrusted(files[ADAPTER_FILES[0]])
        parse_safetensors(files[ADAPTER_FILES[1]])
    except ValueError as error:
        raise ConfigurationError(f"The adapter can't be used: {error}. Train it again under a new id.") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"{ADAPTER_FILES[0]} is no object. Train the adapter again under a new id.")
    return files


def _listed(folder: Path) -> list[str]:
    """Names in a folder that a trainer made; none where it is a link."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return sorted(os.listdir(descriptor))
    finally:
        os.close(descriptor)


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


def _is_final(status: JobStatus, result: Result, *, asked: bool) -> bool:
    """Whether a trainer that ended leaves nothing to explain: it finished, or it stopped as it was asked to."""
    stopped = asked and (status.state is JobState.CANCELLED or (result.ending, result.status) == (Ending.EXITED, 3))
    return stopped or status.state in (JobState.SUCCEEDED, JobState.FAILED)


_ADVICE: Mapping[int, str] = {
    signal.SIGKILL: "The system may have run out of memory: give it more, or smaller batches.",
    signal.SIGXCPU: "It ran out of CPU time: give it more, or fewer datums.",
}


def _tail(result: Result) -> str:
    return result.stderr.decode(errors="replace").strip()[-500:]


def _ended_by(result: Result) -> str:
    """The signal's name, or the exit status."""
    if result.ending is not Ending.SIGNALLED:
        return f"status {result.status}"
    try:
        return signal.Signals(result.status).name
    except ValueError:
        return f"signal {result.status}"


def _why(result: Result) -> str | None:
    """What to record for a process that ended without a final status; none where it may be tried again."""
    match result.ending:
        case Ending.TIMED_OUT:
            return (
                f"The trainer ran into its time limit after {result.wall_seconds:.0f} s. Give it more, or fewer datums."
            )
        case Ending.OUTPUT_LIMIT:
            return "The trainer printed more than its limit."
        case Ending.MEMORY_LIMIT:
            return "The trainer held more memory than its limit. Give it more, or smaller batches."
        case Ending.SCRATCH_LIMIT:
            return "The trainer wrote more than its limit. Give it more, or keep fewer checkpoints."
        case Ending.EXITED if result.status not in (0, 3):
            return f"The trainer exited with status {result.status} before it began. {_tail(result)}"
        case _:
            return None
