"""The local backend: subprocesses of this machine, one a job, in the sandbox."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...safety.sandbox import Limits, Sandbox
from ...safety.telemetry.jobs import job_environment
from ..attempt import attempt, default_limits
from ..backend import JobHandle, wait_for
from ..datums import Datum
from ..job import JobState, JobStatus, TrainJob
from ..submission import Submission


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
            limits: of one subprocess; `attempt.default_limits` where there are none.
        """
        self.runs = runs.resolve()
        self.sandbox = sandbox
        self.limits = limits or default_limits()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._queued: set[str] = set()
        """Jobs whose last task has not begun: a trainer that was asked to stop may still be leaving."""

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
        if self._is_mine(handle):  # what it takes, and what it leaves, is not known before it has ended
            still = {"state": JobState.RUNNING, "adapter": None}
            return status.model_copy(update=still) if status.state.finished else status
        if status.state.finished or job.run.is_held():
            return status
        status = self._told(job)  # it may have ended between the two looks
        return status if status.state.finished else status.model_copy(update={"state": JobState.LOST})

    def cancel(self, handle: JobHandle) -> None:
        """See `TrainerBackend.cancel`."""
        job = Submission(handle.run_dir)
        status = self.poll(handle)
        if status.state.finished:
            return
        job.ask_to_stop()
        if status.state is JobState.LOST:
            job.run.write_status(status.model_copy(update={"state": JobState.CANCELLED}))

    def resume(self, handle: JobHandle) -> JobHandle:
        """See `TrainerBackend.resume`."""
        job = Submission(handle.run_dir)
        job.withdraw_stop()
        if self._told(job).state is JobState.SUCCEEDED or handle.id in self._queued:
            return handle
        before = self._tasks.get(handle.id)
        if before is None or before.done():
            job.reopen()
        elif not self._told(job).state.finished:
            return handle
        self._queued.add(handle.id)
        task = self._run(job, job_environment(handle.id), before)
        self._tasks[handle.id] = asyncio.get_running_loop().create_task(task, name=f"train {handle.id}")
        return handle

    async def wait(self, handle: JobHandle, on_progress: Callable[[JobStatus], None] | None = None) -> JobStatus:
        """See `TrainerBackend.wait`."""
        return await wait_for(self, handle, on_progress)

    async def _run(self, job: Submission, environment: Mapping[str, str], before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        self._queued.discard(job.id)
        job.reopen()
        if not job.run.status().state.finished:
            await attempt(job, self.sandbox, self.limits, environment)

    def _is_mine(self, handle: JobHandle) -> bool:
        task = self._tasks.get(handle.id)
        return task is not None and not task.done()

    def _told(self, job: Submission) -> JobStatus:
        return job.status(self.limits.cpu_seconds)
