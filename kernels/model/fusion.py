"""Regions of `torch.compile`: which operators Inductor computes in one kernel, and what such a kernel moves.

Products, sorts and convolutions stay kernels of their own. Everything else joins a kernel of the same number of
elements that it shares a tensor with, unless a product lies between. A kernel moves what enters and what leaves it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from .access import Tensor, count, is_contiguous, straight, tensors
from .kernels import Kernel
from .operators import allocates_only, is_product, is_rows, operator_kernels
from .steps import Flags, Step, written

COMPILED_DISPATCH = 0.6
"""The host's effort for a kernel of a compiled region, in eager operators."""
GUARDS_DISPATCH = 4.0
"""The same for entering a region: checking its guards."""


@dataclass
class _Group:
    stage: int
    elements: int
    steps: list[Step] = field(default_factory=list["Step"])
    reads: dict[int, Tensor] = field(default_factory=dict[int, "Tensor"])
    writes: dict[int, Tensor] = field(default_factory=dict[int, "Tensor"])

    def touches(self, storages: set[int]) -> bool:
        return bool(storages & (self.reads.keys() | self.writes.keys()))


def region_kernels(steps: Sequence[Step], flags: Flags, read_later: Mapping[int, int]) -> list[Kernel]:
    """The kernels of one call of a compiled function.

    Args:
        steps: the region's operators, in order.
        flags: as of the call.
        read_later: how often each storage is read after the region.
    """
    stages: dict[int, int] = {}
    groups: list[_Group] = []
    readers: dict[int, list[_Group]] = {}
    for step in steps:
        if allocates_only(step):
            continue
        given = list(tensors([step["args"], step.get("kwargs", {})]))
        results = written(step)
        stage = max((stages.get(t["t"], 0) for t in given), default=0)
        alone = is_product(step)
        shape = given if is_rows(step) else [*results, *given[:0]]
        elements = max((count(t) for t in shape), default=1)
        touched = {t["t"] for t in (*given, *results)}
        group = None if alone else _joined(groups, stage, elements, touched)
        if group is None:
            group = _Group(stage, -1 if alone else elements)
            groups.append(group)
        group.steps.append(step)
        for tensor in given:
            if tensor["t"] not in group.writes:
                held = group.reads.get(tensor["t"])
                if held is None or count(held) < count(tensor):
                    group.reads[tensor["t"]] = tensor
                readers.setdefault(tensor["t"], []).append(group)
        for tensor in results:
            group.writes[tensor["t"]] = tensor
            stages[tensor["t"]] = stage + (1 if alone else 0)
    kernels: list[Kernel] = []
    for group in sorted(groups, key=lambda group: group.stage):
        kernels += _kernels(group, flags, readers, read_later)
    return [replace(kernels[0], dispatch=kernels[0].dispatch + GUARDS_DISPATCH), *kernels[1:]] if kernels else []


def _joined(groups: list[_Group], stage: int, elements: int, touched: set[int]) -> _Group | None:
    for group in reversed(groups):
        if group.stage == stage and group.elements == elements and group.touches(touched):
            return group
    return None


def _kernels(
    group: _Group, flags: Flags, readers: Mapping[int, list[_Group]], read_later: Mapping[int, int]
) -> list[Kernel]:
    if group.elements == -1:
        return [_compiled(kernel) for step in group.steps for kernel in operator_kernels(step, flags)]
    leaving = [
        tensor
        for storage, tensor in group.writes.items()
        if read_later.get(storage) or any(other is not group for other in readers.get(storage, []))
    ]
    if not leaving:  # nobody in sight reads it: it is what the function returns
        leaving = list(group.writes.values())[-1:]
    moved = [*group.reads.values(), *leaving]
    wide = [tensor for tensor in moved if len(tensor["sizes"]) > 1 and count(tensor) * 2 > group.elements]
    orders = {_order(tensor) for tensor in wide}
    # Tiles let both sides of a transposition come and go in whole sectors, but in short runs.
    reach = 0.9 if len(orders) <= 1 else 0.8
    traffic = (*(straight(t) for t in group.reads.values()), *(straight(t, writes=True) for t in leaving))
    operations = sum(12.0 * group.elements for _ in group.steps)
    name = "fused " + " ".join(dict.fromkeys(str(step["op"]).split(".")[1] for step in group.steps))
    return [Kernel(name[:120], traffic, operations=operations, reach=reach, dispatch=COMPILED_DISPATCH)]


def _order(tensor: Tensor) -> tuple[int, ...]:
    """Axes from slow to fast, as they lie in memory."""
    if is_contiguous(tensor):
        return ()
    axes: list[tuple[Any, int]] = [
        (-stride, axis)
        for axis, (stride, size) in enumerate(zip(tensor["strides"], tensor["sizes"], strict=True))
        if size > 1
    ]
    return tuple(axis for _, axis in sorted(axes))


def _compiled(kernel: Kernel) -> Kernel:
    return replace(kernel, dispatch=COMPILED_DISPATCH)


def reads_after(steps: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """How often each storage is read in these steps."""
    found: dict[int, int] = {}
    for step in steps:
        given = step["arguments"] if "kernel" in step else [step["args"], step.get("kwargs", {})]
        for tensor in tensors(_plain(given)):
            found[tensor["t"]] = found.get(tensor["t"], 0) + math.prod(tensor["sizes"])
    return found


def _plain(given: Any) -> Any:
    """A launch's arguments with descriptors as the tensors that they are over."""
    if isinstance(given, Mapping):
        parts = cast("Mapping[str, Mapping[str, Any]]", given)
        return [part.get("descriptor", part) for part in parts.values()]
    return given
