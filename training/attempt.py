"""One attempt at a job: `python -m pawl.training RUN_DIR` in the sandbox, and what came of it, on the record.

    await attempt(Submission(run_dir), sandbox, limits, environment)

Every backend runs this, in the controller or on the machine that an engine chose: no network, no keys, the base model
read-only, and nothing writable but the run dir and scratch of this attempt.
"""

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from ..safety.sandbox import Command, Ending, Limits, Mount, Result, Sandbox, Use
from ..safety.sandbox.trees import remove_tree
from ..safety.sandbox.watch import share_of_memory
from .cuda_files import cuda_environment, cuda_mounts
from .job import JobState, JobStatus, TrainJob
from .room import NO_ROOM
from .submission import Submission

DEATHS = 3
"""How often a trainer may die at one checkpoint before its job counts as failed."""

CANCELLED = 3
"""Exit status of a trainer that stopped as it was asked to."""


MEMORY_SHARE = 0.75
"""Of its machine's memory that an attempt may hold."""


def default_limits(seconds: int = 3600, threads: int = 2) -> Limits:
    """Of one attempt: no cap on address space, and most of this machine's memory.

    Args:
        seconds: wall-clock time.
        threads: of each of the job's processes; CPU time is limited to what they can take.
    """
    return Limits(
        wall_seconds=seconds,
        cpu_seconds=seconds * max(2, threads),
        memory_bytes=0,
        total_memory_bytes=share_of_memory(MEMORY_SHARE),
        file_bytes=4 << 30,
        scratch_bytes=32 << 30,
        processes=512,
    )


async def attempt(job: Submission, sandbox: Sandbox, limits: Limits, environment: Mapping[str, str]) -> None:
    """Train a job until its trainer ends, however it ends; never raises for what the trainer does.

    Args:
        job: the job.
        sandbox: what the trainer runs in.
        limits: of this attempt.
        environment: variables besides those that every trainer gets.
    """
    job.forget_stop()
    record = job.record().started()
    job.write(record)
    work = job.beside(".work")
    try:
        await asyncio.to_thread(remove_tree, work)  # what an attempt left whose controller was killed
        work.mkdir(mode=0o700)
        result = await sandbox.run(command(job.run.path, record.job, work, limits, environment))
    except Exception as error:
        job.write(record.ended(0.0))
        job.run.fail(f"The trainer could not be started: {error}")
        return
    finally:
        await asyncio.to_thread(remove_tree, work)
    record = record.ended(result.cpu_seconds)
    error = None
    if not _is_final(job.run.status(), result, asked=job.asked_to_stop()):
        error = _why(result)
        record = record if error is not None else record.died(job.run.last_step())
        if error is None and record.deaths >= DEATHS:
            error = (
                f"The trainer was ended by {_ended_by(result)} {DEATHS} times in a row without finishing another "
                f"step. {_ADVICE.get(result.status, '') or _tail(result)}".strip()
            )
    job.write(record)
    if error is not None:
        job.run.fail(error)


def command(run_dir: Path, job: TrainJob, work: Path, limits: Limits, environment: Mapping[str, str]) -> Command:
    """The trainer as the sandbox runs it. What it may read is told by the job as submitted, not by its run dir."""
    return Command(
        argv=(sys.executable, "-P", "-m", "pawl.training", str(run_dir)),
        work=work,
        mounts=(
            Mount(path=run_dir, writable=True),
            *(Mount(path=path.absolute()) for path in job.reads),
            *cuda_mounts(job),
        ),
        env={
            "OMP_NUM_THREADS": str(job.threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin at a barrier starve whoever shares the processor
            "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "TQDM_DISABLE": "1",
            **cuda_environment(job),
            **environment,
        },
        limits=limits,
        own_tcp=job.processes > 1,
        use=Use.TRAINING,
    )


def _is_final(status: JobStatus, result: Result, *, asked: bool) -> bool:
    """Whether a trainer that ended leaves nothing to explain: it finished, or it stopped as it was asked to."""
    left = (result.ending, result.status) == (Ending.EXITED, CANCELLED)
    stopped = asked and (status.state is JobState.CANCELLED or left)
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
                f"The trainer ran into its time limit after {result.wall_seconds:.0f} s. Give it more "
                "(PAWL_TRAINER_SECONDS), or fewer datums."
            )
        case Ending.OUTPUT_LIMIT:
            return "The trainer printed more than its limit."
        case Ending.MEMORY_LIMIT:
            return "The trainer held more memory than its limit. Give it more, or smaller batches."
        case Ending.SCRATCH_LIMIT:
            return "The trainer wrote more than its limit. Give it more, or keep fewer checkpoints."
        case Ending.EXITED if result.status == NO_ROOM:  # it had no room left even to say so itself
            return f"The trainer ran out of room. {_tail(result)}"
        case Ending.EXITED if result.status not in (0, CANCELLED):
            return f"The trainer exited with status {result.status} before it began. {_tail(result)}"
        case _:
            return None
