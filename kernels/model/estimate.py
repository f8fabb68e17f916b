"""Former names of the model's functions, for callers that are yet to move."""

from collections.abc import Mapping
from typing import Any

from ..report import Launch
from .crude import crude_us
from .device import PERTURBATIONS, Device
from .launches import launch_time as estimate_launch
from .launches import occupancy

__all__ = ["PERTURBATIONS", "crude_us", "estimate_launch", "estimate_operator", "occupancy"]


def estimate_operator(operator: Mapping[str, Any], device: Device) -> Launch:
    """Estimate one torch operator: its bytes, its products, and its launch."""
    rate = device.half_flops * device.tensor_efficiency if operator["dtype"] == "float16" else device.fp32_flops
    moving, busy = operator["bytes"] / device.memory_bytes, operator["flops"] / rate
    seconds = device.launch_seconds + max(moving, busy)
    bound = "launch" if max(moving, busy) < device.launch_seconds else "memory" if moving > busy else "tensor"
    return Launch(kernel=str(operator["name"]), programs=0, time_us=seconds * 1e6, bound=bound, resources={})
