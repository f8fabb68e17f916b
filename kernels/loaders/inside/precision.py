# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false, reportIncompatibleMethodOverride=false
"""Runs a reference as if it had been written for fp64, or for fp64 that is rounded where half precision is stored.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

NARROW = frozenset({torch.float32, torch.float16, torch.bfloat16})
"""What becomes fp64; eight-bit types are left as they are, since going through them is the problem's own doing."""
_DRAWS = frozenset({"rand", "randn", "normal", "rand_like", "randn_like", "dropout", "bernoulli", "multinomial"})
_DRAWS_IN_PLACE = frozenset({"uniform_", "normal_", "cauchy_", "exponential_", "log_normal_", "geometric_"})
_KEEP_TYPE = frozenset({"view", "finfo", "can_cast", "result_type", "promote_types"})
_CASTS = frozenset({"float", "half", "bfloat16"})
_PRODUCTS = (
    "mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "linear", "convolution", "_scaled_dot_product",
    "matmul", "_thnn",
)  # fmt: skip


class Double(TorchFunctionMode):
    """Every narrower floating type that the code names means fp64; what it draws has the values that it would have."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in _DRAWS:
            return self._drawn(func, args, kwargs)
        if name in _DRAWS_IN_PLACE and args and args[0].dtype == torch.float64:
            return args[0].copy_(func(torch.empty(args[0].shape, dtype=torch.float32), *args[1:], **kwargs))
        if name in _CASTS and args and isinstance(args[0], torch.Tensor):
            return args[0].double()
        if name not in _KEEP_TYPE:
            args = tuple(_wide(value) for value in args)
            kwargs = {key: _wide(value) for key, value in kwargs.items()}
        return func(*args, **kwargs)

    def _drawn(self, func: Any, args: Any, kwargs: Any) -> Any:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            like = getattr(func, "__name__", "").endswith("_like")
            if kwargs.get("dtype") == torch.float64 or (like and kwargs.get("dtype") is None):
                kwargs["dtype"] = torch.float32
            value = func(*args, **kwargs)
        finally:
            torch.set_default_dtype(before)
        return value.double() if isinstance(value, torch.Tensor) and value.dtype in NARROW else value


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in NARROW else value


class Rounded(TorchDispatchMode):
    """Rounds what products take and give to so many significant bits; their sums stay as wide as they are.

    The range stays that of fp64: an implementation that would overflow keeps such values in a wider type.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.overloadpacket.__name__.startswith(_PRODUCTS):
            return func(*args, **(kwargs or {}))
        self.products += 1
        args = tuple(self._rounded(value) for value in args)
        return self._rounded(func(*args, **(kwargs or {})))

    def _rounded(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return keep_bits(value, self.bits)
        if isinstance(value, (tuple, list)):
            return type(value)(self._rounded(part) for part in value)
        return value


def keep_bits(tensor: torch.Tensor, bits: int) -> torch.Tensor:
    """Round fp64 values to a significand of so many bits, to nearest even."""
    if tensor.dtype != torch.float64:
        return tensor
    significand, exponent = torch.frexp(tensor)
    finite = torch.ldexp(torch.round(significand * 2.0**bits) / 2.0**bits, exponent)
    return torch.where(torch.isfinite(tensor), finite, tensor)


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """To fp64, if it is a narrower floating type."""
    return tensor.double() if tensor.dtype in NARROW else tensor
