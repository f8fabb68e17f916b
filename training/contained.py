"""`python -m pawl.training.contained RUN_DIR ERRAND`: what an engine starts on its machine, in the trainer's place.

It puts `python -m pawl.training RUN_DIR` into the sandbox of that machine, as the local backend does, beats while that
runs, and keeps the record. Nothing of its own environment, where an engine may have keys, reaches the trainer. A second
one for the same job waits for the first.

Exit status: 0 the job needs nothing more, 1 it ended otherwise, 2 it could not be tried.
"""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..core import PawlError
from ..safety.sandbox import Limits, default_sandbox
from ..safety.sandbox.watch import share_of_memory
from .attempt import attempt
from .submission import Submission

BEAT_SECONDS = 2.0


class Errand(BaseModel):
    """What the one who asks an engine has to say besides the run dir."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: Limits
    memory_share: float | None = Field(default=None, gt=0, le=1)
    """Of this machine's memory that the attempt may hold, in the place of the limit; none keeps the limit."""
    environment: dict[str, str] = {}
    """Variables for the trainer."""


async def run(job: Submission, errand: Errand) -> bool:
    """Train a job until its trainer ends, and return whether it needs nothing more."""
    beating = asyncio.create_task(_beat(job))
    try:
        await attempt(job, default_sandbox(), _limits(errand), errand.environment)
    except PawlError as error:  # trying again would find the same machine
        job.run.fail(f"The trainer could not be started: {error}")
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
        job.end_beat()
    return job.run.status().state.finished


def _limits(errand: Errand) -> Limits:
    if errand.memory_share is None:
        return errand.limits
    return errand.limits.model_copy(update={"total_memory_bytes": share_of_memory(errand.memory_share)})


async def _beat(job: Submission) -> None:
    while True:
        with suppress(OSError):  # a full disk ends no job
            job.beat()
        await asyncio.sleep(BEAT_SECONDS)


@contextmanager
def _alone(job: Submission) -> Generator[None]:
    with job.beside(".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def _until_told(job: Submission, errand: Errand) -> bool:
    """Run, but leave in order when the engine ends this process: the sandbox ends its program first."""
    task = asyncio.create_task(run(job, errand))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main(arguments: list[str]) -> int:
    """Run one job and return the exit status."""
    try:
        path, said = arguments
        errand = Errand.model_validate_json(said)
        job = Submission(Path(path))
        job.record()
    except (ValueError, ValidationError):
        print("usage: python -m pawl.training.contained RUN_DIR ERRAND (JSON: limits, environment)", file=sys.stderr)
        return 2
    except PawlError as error:
        print(error, file=sys.stderr)
        return 2
    with _alone(job):
        if job.run.status().state.finished:
            return 0
        try:
            return 0 if asyncio.run(_until_told(job, errand)) else 1
        except asyncio.CancelledError:
            return 128 + signal.SIGTERM


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
