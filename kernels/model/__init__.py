"""The H100 that isn't there: its figures, and the time of a launch, a torch operator, or a whole call on it.

docs/h100-model.md derives it. Pure functions over plain data; nothing here loads torch or Triton.
"""

from .crude import crude_us
from .device import H100, PERTURBATIONS, Device, perturbed
from .launches import Launched, launch_time, occupancy
from .program import interval_us, operator_times, perturbed_times, program_times, whole_time
from .work import Work, work

__all__ = [
    "H100",
    "PERTURBATIONS",
    "Device",
    "Launched",
    "Work",
    "crude_us",
    "interval_us",
    "launch_time",
    "occupancy",
    "operator_times",
    "perturbed",
    "perturbed_times",
    "program_times",
    "whole_time",
    "work",
]
