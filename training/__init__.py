"""Training: datums, advantages, the loop, and backends that run it.

    from pawl.training import LocalBackend, Objective, TrainJob, advantages, to_datums

Only light names are here; `pawl.training.loop` and `pawl.training.learner` import torch.
"""

from .advantages import advantages, entropic, group_relative
from .backend import JobHandle, LocalBackend, TrainerBackend, adapter_files
from .datums import Datum, Refusal, read_datums, to_datums, write_datums
from .job import JobState, JobStatus, Modules, Precision, TrainJob
from .objectives import (
    PPO,
    Aggregation,
    Baseline,
    BestOfN,
    Entropic,
    GroupRelative,
    LossSettings,
    Objective,
    ObjectiveSettings,
    Preference,
    Reinforce,
    Scale,
)
from .rundir import RunDir

__all__ = [
    "PPO",
    "Aggregation",
    "Baseline",
    "BestOfN",
    "Datum",
    "Entropic",
    "GroupRelative",
    "JobHandle",
    "JobState",
    "JobStatus",
    "LocalBackend",
    "LossSettings",
    "Modules",
    "Objective",
    "ObjectiveSettings",
    "Precision",
    "Preference",
    "Refusal",
    "Reinforce",
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
