"""What a backend is: who runs `python -m pawl.training RUN_DIR`, and where. `backends/` has them.

    backend = LocalBackend(home.runs, default_sandbox())
    handle = backend.submit(job, datums)          # the same id attaches; a lost job is resumed
    status = await backend.wait(handle, print)
    files = adapter_files(status)                 # bytes, for the artefact store

The run dir is the truth of how far a job is: `poll` reads its files, so that a controller that was killed finds the job
again by submitting it again. It is also the trainer's to write, so what the job is, and what it took, is kept beside it
(`submission`).
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from ..core import ConfigurationError
from ..safety.sandbox import read_result
from ..safety.sandbox.tensors import parse_safetensors
from ..safety.sandbox.untrusted import parse_untrusted
from .datums import Datum
from .job import JobState, JobStatus, TrainJob

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_CONFIG_BYTES, _WEIGHTS_BYTES = 1 << 20, 4 << 30
POLL_SECONDS = 0.1


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
            BackendUnavailable: what would run it can't be reached.
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
        """Start a lost, cancelled or failed job again at its last complete step.

        One that failed is started again only so: what made it fail, such as a full disk, may be gone.

        Raises:
            NotFound: there is no such job.
            BackendUnavailable: what would run it can't be reached.
        """
        ...

    async def wait(self, handle: JobHandle, on_progress: Callable[[JobStatus], None] | None = None) -> JobStatus:
        """Return the status once the job is finished or lost; `on_progress` sees each one that differs."""
        ...


async def wait_for(
    backend: TrainerBackend, handle: JobHandle, on_progress: Callable[[JobStatus], None] | None = None
) -> JobStatus:
    """`TrainerBackend.wait` over any backend's `poll`."""
    seen: JobStatus | None = None
    while True:
        status = backend.poll(handle)
        if on_progress is not None and status != seen:
            on_progress(status)
        seen = status
        if status.state.finished or status.state is JobState.LOST:
            return status
        await asyncio.sleep(POLL_SECONDS)


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
