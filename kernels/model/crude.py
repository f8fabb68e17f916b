"""The second estimate, which shares no formula with the first: peaks, bandwidth, and a fixed time for each launch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .access import distinct, tensors
from .device import Device
from .launches import Launched
from .operators import allocates_only, operator_kernels
from .steps import Flags, written


def crude_us(
    steps: Sequence[Mapping[str, Any]],
    launched: Mapping[int, Launched],
    flags: Flags,
    device: Device,
) -> float:
    """All arithmetic over the datasheet's peaks, or all tensors touched over the bandwidth, plus launches.

    Args:
        steps: as the recorder notes them.
        launched: what is known of the steps that are launches, by their place.
        flags: as `operator_times` takes them.
        device: the GPU.
    """
    operators = [step for step in steps if "kernel" not in step and not allocates_only(step)]
    busy = moving = 0.0
    for place, known in launched.items():
        programs, counts = math.prod(steps[place]["grid"]), known.counts
        busy += programs * sum(flops / device.product_peak(kind) for kind, flops in counts["dots"].items())
        useful: dict[int, float] = {}
        for access in counts["accesses"]:
            useful[access["tensor"]] = useful.get(access["tensor"], 0.0) + programs * access["useful"]
        moving += sum(min(amount, known.tensor_bytes.get(tensor, amount)) for tensor, amount in useful.items())
    for step in operators:
        for kernel in operator_kernels(step, flags):
            if kernel.product:
                busy += kernel.product.flops / device.product_peak(kernel.product.kind)
        given = list(tensors([step["args"], step.get("kwargs", {})]))
        moving += sum(distinct(tensor) for tensor in (*given, *written(step)))
    launches = len(launched) + len(operators)
    return (max(busy, moving / device.memory_bytes) + launches * device.launch_seconds) * 1e6
