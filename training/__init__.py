"""Training: datums, advantages, the loop, and backends that run it.

    from pawl.training import LocalBackend, Objective, TrainJob, advantages, to_datums

Only light names are here; `pawl.training.loop` and `pawl.training.learner` import torch.
"""

from .advantages import EntropicSettings, Objective, Scale, advantages, entropic, group_relative
from .backend import JobHandle, LocalBackend, TrainerBackend, adapter_files
from .datums import Datum, Refusal, read_datums, to_datums, write_datums
from .job import JobState, JobStatus, Modules, Precision, TrainJob
from .rundir import RunDir

__all__ = [
    "Datum",
    "EntropicSettings",
    "JobHandle",
    "JobState",
    "JobStatus",
    "LocalBackend",
    "Modules",
    "Objective",
    "Precision",
    "Refusal",
    "RunDir",
    "Scale",
    "TrainJob",
    "TrainerBackend",
    "adapter_files",
    "advantages",
    "entropic",
    "group_relative",
    "read_datums",
    "to_datums",
    "write_datums",
]
