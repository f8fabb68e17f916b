# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false
"""Products of torch as a GPU takes them: in TF32 where a call allows it, although the CPU computes in fp32.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from typing import Any

import torch

from .formats import truncate_to_tf32

_PLAIN = frozenset({"mm", "bmm", "mv", "dot", "linear", "matmul", "_scaled_mm", "_int_mm"})
_ADDED = frozenset({"addmm", "baddbmm", "addbmm", "addmv", "_addmm_activation"})
"""Whose first operand is added to the product."""
_FUSED = ("_scaled_dot_product", "_flash_attention", "_efficient_attention")
_CONVOLUTIONS = frozenset({"convolution", "_convolution", "cudnn_convolution", "conv2d"})
_KINDS = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64", torch.int8: "int8"}


def as_multiplied(name: str, args: Any, flags: dict[str, bool]) -> tuple[Any, str | None]:
    """What a product of torch sees of its arguments, and what it is computed in.

    Args:
        name: the operator's, such as `bmm`.
        args: its positional arguments.
        flags: of the call: `tf32` of matrix products, `cudnn_tf32` of convolutions.

    Returns:
        The arguments with the fp32 operands of a TF32 product as tensor cores see them; and `tf32`, `fp16`, ... or
        none where the operator is no product.
    """
    bare = name.rstrip("_")
    first = int(bare in _ADDED)
    fused = bare.startswith(_FUSED)
    if not (first or fused or bare in _PLAIN or bare in _CONVOLUTIONS):
        return args, None
    last = first + (3 if fused else 2)
    operands = [value for value in args[first:last] if isinstance(value, torch.Tensor)]
    if not operands:
        return args, None
    dtype = operands[0].dtype
    if dtype != torch.float32:
        return args, _KINDS.get(dtype, "fp8" if "float8" in str(dtype) else "fp32")
    allowed = flags.get("cudnn_tf32", True) if bare in _CONVOLUTIONS else flags.get("tf32", False)
    if not allowed:
        return args, "fp32"
    seen = [_in_tf32(value) if first <= place < last else value for place, value in enumerate(args)]
    return seen, "tf32"


def _in_tf32(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
        return value
    return torch.from_numpy(truncate_to_tf32(value.numpy())).view(value.shape)
