"""What a trainer in the sandbox needs of its machine's CUDA devices: the driver's files, and which of them are its own.

A job that says `device=cuda` gets them; one that doesn't has no business with a driver. No GPU has been reached so.
"""

import os
from pathlib import Path

from ..safety.sandbox import Mount
from .job import DeviceKind, TrainJob

_SELECTION = "CUDA_VISIBLE_DEVICES"


def cuda_mounts(job: TrainJob, folder: Path = Path("/dev")) -> tuple[Mount, ...]:
    """The device files of NVIDIA's driver, for a job that asks for CUDA.

    Args:
        job: the job.
        folder: where they are.
    """
    if job.device is not DeviceKind.CUDA:
        return ()
    files = sorted(path for path in folder.glob("nvidia*") if path.is_char_device())
    return tuple(Mount(path=path, writable=True) for path in files)


def cuda_environment(job: TrainJob) -> dict[str, str]:
    """Which devices this process was given, as an engine says it, for a job that asks for CUDA."""
    chosen = os.environ.get(_SELECTION)
    return {_SELECTION: chosen} if job.device is DeviceKind.CUDA and chosen is not None else {}
