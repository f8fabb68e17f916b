"""A kernel of a library, as amounts that don't depend on the device; and the time of one, given what L2 still holds."""

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..report import Launch
from .access import Traffic
from .device import Device
from .products import Product, product_seconds

UNHIDDEN = 0.15
"""Share of the smaller of arithmetic and traffic that a library's kernel doesn't hide behind the other."""


FETCHED = 2.0
"""Sectors of 32 bytes that a miss fetches from memory: 64 bytes, L2's granularity unless a program sets another."""


@dataclass(frozen=True)
class Kernel:
    """One kernel that torch launches."""

    name: str
    traffic: tuple[Traffic, ...] = ()
    product: Product | None = None
    operations: float = 0.0
    """Instructions on integers or fp32, beside products."""
    reach: float = 1.0
    """Share of a copy's bandwidth that this kind of kernel gets to."""
    blocks: float = 0.0
    """Blocks of short life, each `clocks` long beside one access to memory; 0 where their number sets nothing."""
    clocks: float = 0.0
    dispatch: float = 1.0
    """The host's effort, in torch operators."""
    waits: bool = False
    """Whether the host waits for the result."""


class Residency:
    """What L2 still holds of each storage: whole storages, the latest touched last."""

    def __init__(self, device: Device) -> None:
        self._capacity = device.l2_capacity
        self._held: OrderedDict[int, float] = OrderedDict()

    def share(self, storage: int, size: float) -> float:
        """Share of a tensor that is read out of L2; none of one that doesn't fit, since its end evicts its start."""
        if storage not in self._held or size > self._capacity:
            return 0.0
        since = 0.0
        for other in reversed(self._held):
            if other == storage:
                break
            since += self._held[other]
        return min(max((self._capacity - since) / max(size, 1.0), 0.0), 1.0)

    def touch(self, sizes: Mapping[int, float]) -> None:
        """Note what a kernel read and wrote."""
        for storage, size in sizes.items():
            self._held.pop(storage, None)
            self._held[storage] = size


def memory_bytes(part: Traffic, residency: Residency, device: Device) -> float:
    """Bytes of one operand that pass between L2 and memory."""
    missed = min(max(part.footprint / device.l2_capacity - 0.5, 0.0), 1.0)
    # A miss fetches the sector's neighbour as well, which is gone again before its turn comes.
    again = (part.sectors - part.least) * missed * FETCHED if part.footprint else 0.0
    share = 0.0 if part.writes or part.storage < 0 else residency.share(part.storage, part.least)
    return part.least * (1 - share) + again


def kernel_time(kernel: Kernel, residency: Residency, device: Device) -> Launch:
    """Time one kernel and note what it leaves in L2.

    Its time is the greatest of products, arithmetic, memory, L2, L1 and the life of its blocks, plus what isn't hidden.
    """
    moved = sum(memory_bytes(part, residency, device) for part in kernel.traffic)
    sectors = sum(part.sectors for part in kernel.traffic)
    product = kernel.product
    slots = device.multiprocessors * 16
    life = device.latency_seconds + kernel.clocks / device.clock_hz
    computing = {
        "tensor": product_seconds(product, device) if product else 0.0,
        # Half of the lanes do integers, which is most of what an elementwise kernel does.
        "arithmetic": kernel.operations / (device.multiprocessors * 64 * device.clock_hz),
    }
    moving = {
        "memory": moved / (device.memory_bytes * kernel.reach),
        "l2": sectors / device.l2_bytes,
        "l1": sum(part.lines for part in kernel.traffic) / (device.multiprocessors * device.clock_hz),
        "latency": max(kernel.blocks / slots * life, kernel.blocks * device.block_seconds),
    }
    residency.touch(_sizes(kernel.traffic))
    (first, most), (second, less) = sorted(
        (max(parts.items(), key=lambda part: part[1]) for parts in (moving, computing)), key=lambda part: -part[1]
    )
    breakdown = {first: most * 1e6, second: less * UNHIDDEN * 1e6, "launch": device.launch_seconds * 1e6}
    return Launch(
        kernel=kernel.name,
        programs=0,
        time_us=math.fsum(breakdown.values()),
        bound=max(breakdown, key=lambda part: breakdown[part]),
        breakdown_us={part: time for part, time in breakdown.items() if time > 0},
        host_us=kernel.dispatch * device.dispatch_seconds * 1e6,
        waits=kernel.waits,
        resources={},
    )


def _sizes(traffic: Iterable[Traffic]) -> dict[int, float]:
    sizes: dict[int, float] = {}
    for part in traffic:
        sizes[part.storage] = sizes.get(part.storage, 0.0) + part.least
    return sizes
