"""The estimated time of a launch: a roofline with occupancy, waves, pipelining and launches.

A launch takes as long as the busiest of tensor cores, arithmetic, memory and L2, where

- arithmetic is rounded up to whole waves of the blocks that fit on the multiprocessors at once (registers, shared
  memory, threads), since the last wave takes as long as a full one;
- memory counts what isn't found in L2: regions that programs at work together share are fetched once for them, and
  a tensor that fits in L2 is fetched once;
- bytes in flight bound the bandwidth (Little's law): what a block loads at a time, times the stages in flight,
  times the blocks at work, over the latency;
- what is left unhidden of the smaller of arithmetic and traffic is one over the number of steps in flight.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..report import Launch
from .device import Device

PERTURBATIONS = 4
"""Device variants that every report carries."""


def occupancy(resources: Mapping[str, int], device: Device) -> int:
    """Blocks that fit on one multiprocessor; 0 if none does."""
    threads = 32 * resources["warps"]
    registers = math.ceil(resources["registers"] / 8) * 8 * threads
    shared = resources["shared"] + 1024
    fits = (device.registers // registers, device.threads // threads, device.shared_bytes // shared, device.blocks)
    return min(fits)


def dot_seconds(dots: Mapping[str, float], resources: Mapping[str, int], device: Device) -> float:
    """Time of the products on the whole GPU, at the rate of their type and instruction."""
    rates = {"fp16": device.half_flops, "tf32": device.tf32_flops, "tf32x3": device.tf32_flops / 3}
    slow = 1.0 if resources.get("wgmma") else device.mma_share
    tensor = resources.get("wgmma") or resources.get("mma")
    seconds = 0.0
    for kind, flops in dots.items():
        rate = rates.get(kind, 0.0) * slow * device.tensor_efficiency if tensor else 0.0
        seconds += flops / (rate or device.fp32_flops)
    return seconds


def estimate_launch(
    name: str,
    grid: Sequence[int],
    counts: Mapping[str, Any],
    resources: Mapping[str, int],
    tensor_bytes: Mapping[int, int],
    device: Device,
) -> Launch:
    """Estimate one launch.

    Args:
        name: the kernel's name.
        grid: programs along each axis.
        counts: what `counting.count` found, per program.
        resources: what `aot.compile_launch` found.
        tensor_bytes: size of each tensor's storage.
        device: the GPU.
    """
    programs = math.prod(grid)
    resident = max(occupancy(resources, device), 1)
    slots = device.multiprocessors * resident
    waves = programs / slots
    rounding = math.ceil(waves) / waves
    accesses = cast("list[dict[str, Any]]", counts["accesses"])
    spilled = resources["spills"] * 32.0 * resources["warps"]
    sectors = programs * (sum(a["bytes"] for a in accesses) + spilled)
    dram = sum(_from_memory(accesses, tensor, size, programs, slots, device) for tensor, size in tensor_bytes.items())
    in_loop = sum(a["bytes"] for a in accesses if a["kind"] == "load" and a["looped"])
    straight = sum(a["bytes"] for a in accesses if a["kind"] == "load" and not a["looped"])
    trips = max(float(counts["trips"]), 1.0)
    ahead = max(resources["stages"] - 1, 1) if resources["async_copies"] else 1
    flight = resident * device.multiprocessors * max(in_loop / trips * ahead, straight, 1.0)
    tensor = dot_seconds(counts["dots"], resources, device) * programs * rounding
    arithmetic = 2 * counts["operations"] / device.fp32_flops * programs * rounding
    traffic = {
        "memory": dram / device.memory_bytes,
        "l2": sectors / device.l2_bytes,
        "latency": sectors * device.latency_seconds / flight,
    }
    compute = {"tensor": tensor, "arithmetic": arithmetic}
    # Tensor cores and the other pipes overlap between the warps of different blocks.
    busy = max(tensor, arithmetic) + min(tensor, arithmetic) / max(resident, 1.5)
    moving = max(traffic.values())
    unhidden = min(busy, moving) / (resident * ahead + 1)
    seconds = max(busy, moving) + unhidden
    parts = {**traffic, **compute, "launch": device.launch_seconds}
    return Launch(
        kernel=name,
        programs=programs,
        time_us=(seconds + device.launch_seconds) * 1e6,
        bound=max(parts, key=lambda part: parts[part]),
        resources={
            **{key: int(resources[key]) for key in ("registers", "shared", "spills", "warps")},
            "blocks": resident,
        },
    )


def _from_memory(
    accesses: list[dict[str, Any]], tensor: int, size: int, programs: int, slots: int, device: Device
) -> float:
    """Bytes of one tensor that pass between L2 and memory in a launch."""
    mine = [a for a in accesses if a["tensor"] == tensor]
    asked = programs * sum(a["bytes"] for a in mine)
    stores = any(a["kind"] == "store" for a in mine)
    if size <= device.l2_capacity or stores:
        # Partial sectors of neighbouring programs are joined in L2 before they are written back.
        return min(asked, float(size))
    together = min(programs, slots)
    return programs * sum(a["bytes"] * max(a["sharing"], 1 / together) for a in mine)


def estimate_operator(operator: Mapping[str, Any], device: Device) -> Launch:
    """Estimate one torch operator: its bytes, its products, and its launch."""
    rate = device.half_flops * device.tensor_efficiency if operator["dtype"] == "float16" else device.fp32_flops
    moving, busy = operator["bytes"] / device.memory_bytes, operator["flops"] / rate
    seconds = device.launch_seconds + max(moving, busy)
    bound = "launch" if max(moving, busy) < device.launch_seconds else "memory" if moving > busy else "tensor"
    return Launch(kernel=str(operator["name"]), programs=0, time_us=seconds * 1e6, bound=bound, resources={})


def crude_us(
    counted: Sequence[tuple[int, Mapping[str, Any], Mapping[int, int]]], launches: int, device: Device
) -> float:
    """The second estimate: all arithmetic over the peaks, or all tensors touched over the bandwidth, plus launches.

    Args:
        counted: for each launch its programs, its counts, and the sizes of its tensors.
        launches: kernel launches and torch operators.
        device: the GPU.
    """
    peaks = {"fp16": device.half_flops, "tf32": device.tf32_flops, "tf32x3": device.tf32_flops / 3}
    busy = moving = 0.0
    for programs, counts, sizes in counted:
        busy += programs * sum(flops / peaks.get(kind, device.fp32_flops) for kind, flops in counts["dots"].items())
        useful: dict[int, float] = {}
        for access in counts["accesses"]:
            useful[access["tensor"]] = useful.get(access["tensor"], 0.0) + programs * access["useful"]
        moving += sum(min(amount, sizes.get(tensor, amount)) for tensor, amount in useful.items())
    return (max(busy, moving / device.memory_bytes) + launches * device.launch_seconds) * 1e6
