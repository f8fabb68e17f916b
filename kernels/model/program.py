"""The time of a whole call: its operators and launches one after another on a stream that a Python host feeds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..report import Launch
from .access import distinct, tensors
from .device import PERTURBATIONS, Device, fastest, perturbed, slowest
from .fusion import reads_after, region_kernels
from .kernels import Kernel, Residency, kernel_time
from .launches import Launched, launch_time
from .operators import operator_kernels
from .steps import Flags

READ_BACK = 1.0e-5
"""Seconds from the end of a kernel to the host's next instruction, where it waits for a value."""


def operator_times(steps: Sequence[Mapping[str, Any]], flags: Flags, device: Device) -> list[Launch]:
    """Time the torch operators of a call, in order; launches of Triton kernels among the steps are passed over.

    Args:
        steps: as the recorder notes them.
        flags: `tf32` (products of fp32 in TF32), `cudnn_tf32` (convolutions).
        device: the GPU.
    """
    return program_times(steps, {}, flags, device)


def program_times(
    steps: Sequence[Mapping[str, Any]], launched: Mapping[int, Launched], flags: Flags, device: Device
) -> list[Launch]:
    """Time every operator and launch of a call, in order.

    Args:
        steps: as the recorder notes them.
        launched: what is known of the steps that are launches, by their place; others are passed over.
        flags: as `operator_times` takes them.
        device: the GPU.

    Returns:
        A time for each kernel that runs; an operator may run several, or none.
    """
    residency = Residency(device)
    times: list[Launch] = []
    place = 0
    while place < len(steps):
        step = steps[place]
        if "kernel" in step:
            known = launched.get(place)
            if known is not None:
                times.append(
                    launch_time(step["kernel"], step["grid"], known.counts, known.resources, known.tensor_bytes, device)
                )
                residency.touch({storage: float(size) for storage, size in known.tensor_bytes.items()})
            else:
                given = [part.get("descriptor", part) for part in step["arguments"].values()]
                residency.touch({t["t"]: distinct(t) for t in tensors(given)})
            place += 1
            continue
        region = step.get("region")
        end = place + 1
        kernels: list[Kernel]
        if region is not None:
            while end < len(steps) and steps[end].get("region") == region:
                end += 1
            kernels = region_kernels(steps[place:end], flags, reads_after(steps[end:]))
        else:
            kernels = operator_kernels(step, flags)
        times += [kernel_time(kernel, residency, device) for kernel in kernels]
        place = end
    return times


def whole_time(launches: Sequence[Launch]) -> float:
    """Microseconds from the first instruction of a call to the end of its last kernel.

    The host issues one launch after another and the GPU runs them in order; whichever is behind is waited for.
    """
    host = gpu = 0.0
    for launch in launches:
        host += launch.host_us
        gpu = max(gpu, host) + launch.time_us
        if launch.waits:
            host = gpu + READ_BACK * 1e6
    return max(gpu, host)


def perturbed_times(time: Callable[[Device], float], device: Device, count: int = PERTURBATIONS) -> list[float]:
    """The same time under perturbed constants, in the order of the seeds 0, 1, ..."""
    return [time(perturbed(device, seed)) for seed in range(count)]


def interval_us(time: Callable[[Device], float], device: Device) -> tuple[float, float]:
    """The time with every uncertain constant at the fast end of its doubt, and with every one at the slow end.

    What the model leaves out is beside this.
    """
    return time(fastest(device)), time(slowest(device))
