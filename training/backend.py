"""Backends: who runs `python -m pawl.training RUN_DIR`, and where.

    backend = LocalBackend(home.runs, default_sandbox())
    handle = backend.submit(job, datums)          # the same id attaches; a lost job is resumed
    status = await backend.wait(handle, print)
    files = adapter_files(status)                 # bytes, for the artefact store

The run dir is the truth: `poll` reads its files, and its lock tells whether anybody still trains, so that a
controller that was killed finds the job again by submitting it again.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from ..core import ConfigurationError, Conflict, NotFound, canonical_json, digest_bytes
from ..core.artifacts import write_durably
from ..core.faults import point
from ..safety.sandbox import Command, Ending, Limits, Mount, Result, Sandbox, Use, read_result
from ..safety.sandbox.tensors import parse_safetensors
from ..safety.sandbox.untrusted import parse_untrusted
from ..safety.sandbox.watch import share_of_memory
from ..safety.telemetry.jobs import job_environment
from .datums import Datum, encode_datums
from .job import JobState, JobStatus, TrainJob
from .rundir import RunDir

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
        self.runs = runs
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
        self._jobs: dict[str, TrainJob] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def submit(self, job: TrainJob, datums: Sequence[Datum]) -> JobHandle:
        """See `TrainerBackend.submit`."""
        run = RunDir(self.runs / job.id)
        data = encode_datums(datums)
        if (run.path / "job.json").exists():
            _check_same(run, job, data)
        else:
            run.rollouts.mkdir(parents=True, exist_ok=True)
            write_durably(run.rollouts / "datums.jsonl", data)
            run.write_status(JobStatus(state=JobState.PENDING))
            point("training.submit")
            self._kept(run).parent.mkdir(exist_ok=True)
            write_durably(self._kept(run), canonical_json(job))
            write_durably(run.path / "job.json", canonical_json(job))
            point("training.submitted")
        self._jobs[job.id] = job
        return self.resume(JobHandle(id=job.id, run_dir=run.path))

    def poll(self, handle: JobHandle) -> JobStatus:
        """See `TrainerBackend.poll`."""
        run = RunDir(handle.run_dir)
        status = run.status()
        if status is None or not (run.path / "job.json").exists():
            raise NotFound(f"No training job {handle.id!r} in {handle.run_dir.parent}: submit it first.")
        if status.state is JobState.SUCCEEDED:  # a path that the trainer wrote is not followed
            return status.model_copy(update={"adapter": run.adapter})
        if status.state.finished or self._is_mine(handle) or run.is_held():
            return status
        status = run.status() or status  # it may have ended between the two looks
        if status.state.finished:
            return self.poll(handle)
        return status.model_copy(update={"state": JobState.LOST})

    def cancel(self, handle: JobHandle) -> None:
        """See `TrainerBackend.cancel`."""
        run = RunDir(handle.run_dir)
        status = self.poll(handle)
        if status.state.finished:
            return
        run.request_cancel()
        if status.state is JobState.LOST:
            run.write_status(status.model_copy(update={"state": JobState.CANCELLED}))

    def resume(self, handle: JobHandle) -> JobHandle:
        """See `TrainerBackend.resume`."""
        run = RunDir(handle.run_dir)
        status = self.poll(handle)
        with suppress(OSError):  # none there, or what the trainer put in its way
            run.cancel_request.unlink()
        if status.state is JobState.CANCELLED:
            run.write_status(status.model_copy(update={"state": JobState.PENDING}))
            self._start(handle, run)
        elif not self._is_mine(handle):
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

    def _start(self, handle: JobHandle, run: RunDir) -> None:
        status = run.status()
        if status is None or not status.state.finished:
            task = self._run(run, after=self._tasks.get(handle.id))
            self._tasks[handle.id] = asyncio.get_running_loop().create_task(task, name=f"train {handle.id}")

    async def _run(self, run: RunDir, after: "asyncio.Task[None] | None") -> None:
        if after is not None:  # a cancelled trainer may still be leaving
            await asyncio.wait([after])
        try:
            result = await self.sandbox.run(self._command(run))
        except Exception as error:
            run.fail(f"The trainer could not be started: {error}")
            return
        status = run.status()
        if status is not None and status.state.finished:
            return
        error = _why(result)
        if error is None and run.died() >= DEATHS:
            error = (
                f"The trainer was ended by {_ended_by(result)} {DEATHS} times in a row without finishing another "
                f"step. {_ADVICE.get(result.status, '') or _tail(result)}".strip()
            )
        if error is not None:
            run.fail(error)

    def _kept(self, run: RunDir) -> Path:
        """The job as it was submitted, out of the trainer's reach: what it may write names no mounts."""
        return self.runs.with_name("jobs") / f"{run.path.name}.json"

    def _command(self, run: RunDir) -> Command:
        job = self._jobs.get(run.path.name) or TrainJob.model_validate_json(self._kept(run).read_bytes())
        work = run.path / "work"
        work.mkdir(exist_ok=True)
        readable = [job.base_model_dir, *([job.init_adapter] if job.init_adapter else [])]
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


def _check_same(run: RunDir, job: TrainJob, data: bytes) -> None:
    for what, same in (
        ("settings", run.job().digest == job.digest),
        ("datums", run.data_digest() == digest_bytes(data)),
    ):
        if not same:
            raise Conflict(
                f"The training job {job.id!r} was submitted before with other {what}. An id stands for one job: "
                "submit under a new one, or derive it from the settings and datums."
            )


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
