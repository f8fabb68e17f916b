"""Times of a submission taken on a CUDA device, by a parent that owns the inputs, the outputs and the clock.

report = await measure(source, problem.benchmark(), problem, default_sandbox())

Importing this loads neither torch nor NumPy; `measure` raises `NoDevice`, with the reason, where there is no device.
"""

from .accelerator import Accelerator, Buffer, ClockReading, NoDevice, PrivateCopy, open_accelerator, why_no_device
from .judging import Standard
from .measuring import BaselineFailed, MeasureSettings, measure, take_standards
from .report import Clocks, Measured, MeasureReport, Reason, Refusal
from .rules import Tolerances
from .schedule import Counts

__all__ = [
    "Accelerator",
    "BaselineFailed",
    "Buffer",
    "ClockReading",
    "Clocks",
    "Counts",
    "MeasureReport",
    "MeasureSettings",
    "Measured",
    "NoDevice",
    "PrivateCopy",
    "Reason",
    "Refusal",
    "Standard",
    "Tolerances",
    "measure",
    "open_accelerator",
    "take_standards",
    "why_no_device",
]
