"""How much a call does, as a check of honesty asks: arithmetic in Triton and in torch, and bytes of each storage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .access import distinct, tensors
from .launches import Launched
from .operators import allocates_only, flops
from .steps import mutates, name_of, written


@dataclass(frozen=True)
class Work:
    """Totals of one call."""

    triton_flops: float = 0.0
    """Of products in Triton kernels, two for each multiplication."""
    torch_flops: float = 0.0
    """Of products in torch operators."""
    read: dict[int, float] = field(default_factory=dict[int, float])
    """Useful bytes read of each storage, again each time: no sectors, and nothing that a mask leaves out."""
    written: dict[int, float] = field(default_factory=dict[int, float])
    """Useful bytes written to each storage."""

    @property
    def flops(self) -> float:
        """Of all products."""
        return self.triton_flops + self.torch_flops


def work(steps: Sequence[Mapping[str, Any]], launched: Mapping[int, Launched]) -> Work:
    """Add up the launches and the torch operators of a call.

    Args:
        steps: as the recorder notes them.
        launched: what is known of the steps that are launches, by their place.
    """
    triton = torch = 0.0
    reads: dict[int, float] = {}
    writes: dict[int, float] = {}
    for place, known in launched.items():
        programs, counts = math.prod(steps[place]["grid"]), known.counts
        triton += programs * sum(counts["dots"].values())
        for access in counts["accesses"]:
            sides = {"load": (reads,), "store": (writes,)}.get(access["kind"], (reads, writes))
            for side in sides:
                side[access["tensor"]] = side.get(access["tensor"], 0.0) + programs * access["useful"]
    for step in steps:
        if "kernel" in step or allocates_only(step):
            continue
        torch += flops(step)
        results = written(step)
        given = list(tensors([step["args"], {k: v for k, v in step.get("kwargs", {}).items() if k != "out"}]))
        if mutates(step) and name_of(step) in ("copy", "fill", "zero"):
            given = given[1:]
        for side, moved in ((reads, given), (writes, results)):
            for tensor in moved:
                side[tensor["t"]] = side.get(tensor["t"], 0.0) + distinct(tensor)
    return Work(triton, torch, reads, writes)
