"""Training: datums, advantages, the loop, and backends that run it.

    from pawl.training import LocalBackend, Objective, TrainJob, advantages_of, to_datums

Only light names are here; `pawl.training.loop` and `pawl.training.learner` import torch.
"""

from .advantages import advantages_of, entropic, group_relative
from .backend import JobHandle, TrainerBackend, adapter_files
from .backends import LocalBackend, RayBackend
from .dataset import Dataset, Drop, make_dataset
from .datums import Datum, Refusal, read_datums, to_datums, write_datums
from .job import DeviceKind, JobState, JobStatus, Modules, Precision, TrainJob
from .objectives import (
    PPO,
    Aggregation,
    Anchor,
    Baseline,
    BestOfN,
    Entropic,
    GroupRelative,
    LossSettings,
    Objective,
    ObjectiveSettings,
    Overlong,
    Preference,
    Reinforce,
    Scale,
)
from .presets import PRESETS
from .rundir import RunDir

__all__ = [
    "PPO",
    "PRESETS",
    "Aggregation",
    "Anchor",
    "Baseline",
    "BestOfN",
    "Dataset",
    "Datum",
    "DeviceKind",
    "Drop",
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
    "Overlong",
    "Precision",
    "Preference",
    "RayBackend",
    "Refusal",
    "Reinforce",
    "RunDir",
    "Scale",
    "TrainJob",
    "TrainerBackend",
    "adapter_files",
    "advantages_of",
    "entropic",
    "group_relative",
    "make_dataset",
    "read_datums",
    "to_datums",
    "write_datums",
]
