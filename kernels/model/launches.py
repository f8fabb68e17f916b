"""The time of a Triton launch: a roofline with occupancy, waves, pipelining and launches.

A launch takes as long as the busiest of tensor cores, arithmetic, memory and L2, where

- arithmetic is that of the busiest multiprocessor, which does a whole number of blocks and may end with a heavy one;
- memory counts what isn't found in L2: regions that programs at work together share are fetched once for them, and
  a tensor that fits in L2 is fetched once;
- bytes in flight bound the bandwidth (Little's law): what a block loads at a time, times the stages in flight,
  times the blocks at work, over the latency;
- each wave starts with a load that nothing hides, and blocks start one after another;
- what is left unhidden of the smaller of arithmetic and traffic is one over the number of steps in flight.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..report import Launch
from .device import Device

_SERIALIZED = 0.6
"""Rate of wgmma that waits for each product before the next, as ptxas says where it must."""
_REACH = 0.95
"""Share of a copy's bandwidth that a kernel with other work gets to."""
_ALONE = 0.75
"""Rate of a block that has a multiprocessor to itself where several would fit."""
_EVERYONE = 0.01
"""Regions a program of those at work together, up to which it is taken that all have the same."""
_NARROW = {8: 0.15, 16: 0.3, 32: 0.5, 64: 0.85}
"""Rate of wgmma by columns of the tile, against 128 and more: both operands come from shared memory for fewer
multiplications; arXiv 2402.13499 finds the full rate from 64 columns on only with one operand in registers."""


@dataclass(frozen=True)
class Launched:
    """What is known of one Triton launch besides its step."""

    counts: Mapping[str, Any]
    """What `counting.count` found."""
    resources: Mapping[str, int]
    """What `aot.compile_launch` found."""
    tensor_bytes: Mapping[int, int]
    """Size of each storage that it is given."""


def occupancy(resources: Mapping[str, int], device: Device) -> int:
    """Blocks that fit on one multiprocessor; 0 if none does."""
    threads = 32 * resources["warps"]
    registers = math.ceil(resources["registers"] / 8) * 8 * threads
    shared = resources["shared"] + 1024
    fits = (device.registers // registers, device.threads // threads, device.shared_bytes // shared, device.blocks)
    return min(fits)


def dot_seconds(
    dots: Mapping[str, float],
    resources: Mapping[str, int],
    device: Device,
    tiles: Mapping[str, Sequence[float]] | None = None,
) -> float:
    """Time of the products on the whole GPU, at the rate of their type, instruction and tile.

    Args:
        dots: operations by type.
        resources: what was compiled: `wgmma` and `mma`, instructions of each kind.
        device: the GPU.
        tiles: rows, columns and depth of the largest product of each type.
    """
    slow = 1.0 if resources.get("wgmma") else device.mma_share
    tensor = resources.get("wgmma") or resources.get("mma")
    if resources.get("serialized"):
        slow *= _SERIALIZED
    seconds = 0.0
    for kind, flops in dots.items():
        rate = device.product_rate(kind) * (slow if kind != "fp32" else 1.0) if tensor else device.product_rate("fp32")
        columns = (tiles or {}).get(kind, (128, 128, 64))[1]
        if tensor and resources.get("wgmma"):
            rate *= next((share for limit, share in _NARROW.items() if columns <= limit), 1.0)
        seconds += flops / rate
    return seconds


def launch_time(
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
    rounding = _rounding(programs, resident, float(counts["heaviest"]), device)
    accesses = cast("list[dict[str, Any]]", counts["accesses"])
    spilled = resources["spills"] * 32.0 * resources["warps"]
    sectors = programs * (sum(_sectors(a, programs, resources, device) for a in accesses) + spilled)
    dram = sum(_from_memory(accesses, tensor, size, programs, slots, device) for tensor, size in tensor_bytes.items())
    loads = [a for a in accesses if a["kind"] == "load"]
    in_loop = sum(a["bytes"] for a in loads if a["looped"])
    straight = sum(a["bytes"] for a in loads if not a["looped"])
    trips = max(float(counts["trips"]), 1.0)
    ahead = max(resources["stages"] - 1, 1) if resources["async_copies"] else 1
    flight = min(programs, slots) * max(in_loop / trips * ahead, straight, 1.0)
    tensor = dot_seconds(counts["dots"], resources, device, counts.get("tiles")) * programs * rounding
    arithmetic = 2 * counts["operations"] / device.fp32_flops * programs * rounding
    first = math.ceil(waves) * device.latency_seconds * (1 if loads else 0) / max(resident, 1)
    moving = {
        "memory": dram / (device.memory_bytes * _REACH),
        "l2": sectors / device.l2_bytes,
        "latency": max(
            sectors * device.latency_seconds / flight + first if loads else 0.0, programs * device.block_seconds
        ),
    }
    # Tensor cores and the other pipes overlap between the warps of different blocks.
    computing = {"tensor": tensor, "arithmetic": arithmetic}
    beside = min(tensor, arithmetic) / max(resident, 1.5)
    slowest, busiest = (max(parts, key=lambda part: parts[part]) for parts in (moving, computing))
    busy, wait = computing[busiest] + beside, moving[slowest]
    unhidden = min(busy, wait) / (resident * ahead + 1)
    breakdown = {part: seconds * 1e6 for part, seconds in _parts(busiest, busy - beside, beside, slowest, wait).items()}
    hidden = slowest if busy >= wait else busiest
    for part in [p for p in breakdown if (p == slowest) == (busy >= wait)]:
        del breakdown[part]
    breakdown[hidden] = breakdown.get(hidden, 0.0) + unhidden * 1e6
    breakdown["launch"] = device.launch_seconds * 1e6
    return Launch(
        kernel=name,
        programs=programs,
        time_us=math.fsum(breakdown.values()),
        bound=max(breakdown, key=lambda part: breakdown[part]),
        breakdown_us={part: time for part, time in breakdown.items() if time > 0},
        host_us=device.triton_seconds * 1e6,
        resources={
            **{key: int(resources[key]) for key in ("registers", "shared", "spills", "warps")},
            "blocks": resident,
        },
    )


def _parts(busiest: str, busy: float, beside: float, slowest: str, wait: float) -> dict[str, float]:
    other = "arithmetic" if busiest == "tensor" else "tensor"
    return {busiest: busy, other: beside, slowest: wait}


def _rounding(programs: int, resident: int, heaviest: float, device: Device) -> float:
    """Time of the busiest multiprocessor over that of the work evenly spread.

    Blocks go where one ends, so that the busiest does one more than others at most; in the end it has fewer at once
    than fit, and ends with its heaviest.
    """
    most = math.ceil(programs / device.multiprocessors)
    last = most if most <= resident else most % resident
    alone = _ALONE if last == 1 and resident > 1 else 1.0
    return (most - last + last / alone + heaviest - 1) / (programs / device.multiprocessors)


def _sectors(access: Mapping[str, Any], programs: int, resources: Mapping[str, int], device: Device) -> float:
    """Bytes of sectors that pass between L2 and a program's multiprocessor.

    Atomics count twice: they are read and written where L2 is. What every program loads, such as a row of weights,
    stays in L1 from one program to the next, unless it is copied to shared memory, which goes past L1.
    """
    if access["kind"] == "atomic":
        return 2.0 * access["bytes"]
    past = access["looped"] and resources["async_copies"]
    room = device.shared_bytes - resources["shared"] * max(occupancy(resources, device), 1)
    if access["kind"] == "store" or past or access["sharing"] > _EVERYONE or access["first"] > room / 2:
        return float(access["bytes"])
    return access["bytes"] * min(device.multiprocessors / programs, 1.0)


def _from_memory(
    accesses: list[dict[str, Any]], tensor: int, size: int, programs: int, slots: int, device: Device
) -> float:
    """Bytes of one tensor that pass between L2 and memory in a launch."""
    mine = [a for a in accesses if a["tensor"] == tensor]
    asked = programs * sum(a["bytes"] for a in mine)
    stores = any(a["kind"] != "load" for a in mine)
    if size <= device.l2_capacity or stores:
        # Partial sectors of neighbouring programs are joined in L2 before they are written back.
        return min(asked, float(size) * (2.0 if any(a["kind"] == "load" for a in mine) and stores else 1.0))
    together = min(programs, slots)
    # What a program reads again soon after, it finds in L1 or L2.
    fetched = programs * sum(a["first"] * max(a["sharing"], 1 / together) for a in mine)
    return min(max(fetched, 0.0), asked)
