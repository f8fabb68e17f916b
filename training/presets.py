"""The group-relative methods by their names in the literature, as settings.

    TrainJob(objective=PRESETS["dapo"], ...)

They differ in baseline, scale, aggregation and clip; `advantages.group` has the table and the sources.
"""

from collections.abc import Mapping
from types import MappingProxyType

from .objectives import Aggregation, Baseline, GroupRelative, LossSettings, Scale

PRESETS: Mapping[str, GroupRelative] = MappingProxyType(
    {
        "grpo": GroupRelative(
            loss=LossSettings(clip_low=0.2, clip_high=0.2, kl=0.04, aggregation=Aggregation.SEQUENCE),
        ),
        "dr_grpo": GroupRelative(
            scale=Scale.NONE,
            loss=LossSettings(clip_low=0.2, clip_high=0.2, aggregation=Aggregation.CONSTANT),
        ),
        "dapo": GroupRelative(loss=LossSettings(clip_low=0.2, clip_high=0.28, aggregation=Aggregation.TOKEN)),
        "rloo": GroupRelative(
            baseline=Baseline.LEAVE_ONE_OUT,
            scale=Scale.NONE,
            loss=LossSettings(kl=0.05, aggregation=Aggregation.CONSTANT),
        ),
    }
)
