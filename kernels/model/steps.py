"""An operator of a call as the recorder notes it, and the kernels over elements that many operators come down to."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from .access import Tensor, is_contiguous, like, straight, tensors, walk
from .kernels import Kernel

Step: TypeAlias = Mapping[str, Any]
"""An operator as the recorder notes it: `op`, `args`, `kwargs`, `outs`, `region`."""
Flags: TypeAlias = Mapping[str, Any]


def name_of(step: Step) -> str:
    """An operator's name without namespace, overload and the mark of an in-place variant."""
    words = str(step["op"]).split(".")
    bare = (
        words[1]
        if len(words) > 1 and words[0] in ("aten", "prims", "torchvision", "quantized_decomposed")
        else words[0]
    )
    return bare if bare.startswith("__") else bare.rstrip("_")


def mutates(step: Step) -> bool:
    """Whether the operator writes its first argument."""
    words = str(step["op"]).split(".")
    return (words[1] if len(words) > 1 else words[0]).endswith("_")


def written(step: Step) -> list[Tensor]:
    """The tensors that an operator writes."""
    given = list(tensors(step["args"]))
    out = [*tensors(step.get("kwargs", {}).get("out"))]
    if out:
        return out
    fresh = [tensor for tensor in step["outs"] if tensor]
    return [*given[:1], *fresh] if mutates(step) else fresh


def elementwise(name: str, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Kernel:
    """One kernel that computes each element of the outputs from the inputs' elements at the same place."""
    if name in ("clone", "copy", "_to_copy", "contiguous") and len(inputs) == 1:
        one, other = outputs[0], inputs[0]
        if one["dtype"] == other["dtype"] and is_contiguous(one) and is_contiguous(other):
            return Kernel("memcpy", (straight(other), straight(one, writes=True)))
    way = walk(outputs, inputs)
    operands = len(outputs) + len(inputs)
    # A vector's address is worked out once; else every element's place is divided out along each axis.
    each = 4.0 + operands if way.vectors else 8.0 + way.axes * (4.0 + operands) + 3.0 * operands
    return Kernel(name, way.traffic, operations=each * way.elements)


def contiguous(tensor: Tensor) -> tuple[list[Kernel], Tensor]:
    """The tensor in row-major order, and the copy that takes where it isn't."""
    return ([], tensor) if is_contiguous(tensor) else copied(tensor)


def copied(tensor: Tensor) -> tuple[list[Kernel], Tensor]:
    """A row-major copy of a tensor, and the kernel that makes it."""
    # The copy has no number of its own; no two are alive at once in a way that matters to L2.
    made = like(tensor, storage=-1 - int(tensor["t"]))
    return [replace(elementwise("clone", [made], [tensor]), dispatch=0.5)], made
