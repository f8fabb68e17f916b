# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false
"""How the arguments of a launch are written down as JSON, and read back.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


class Rejected(Exception):
    """Why a submission is refused: a code and what was seen."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def encode_scalar(value: Any) -> dict[str, Any]:
    """A number that a launch is given."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, (bool, int, float)) or value is None:
        return {"value": value}
    raise Rejected("unsupported-argument", f"a kernel's argument is a {type(value).__name__}")


def encode_constant(value: Any) -> Any:
    """The value of a constexpr: a number, a word, a type of the language, or a list of such."""
    value = getattr(value, "value", value)
    if isinstance(value, tl.dtype):
        return {"type": value.name}
    if isinstance(value, (list, tuple)):
        return [encode_constant(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Rejected("unsupported-argument", f"a constexpr is a {type(value).__name__}")


def decode_constant(given: Any) -> Any:
    """The inverse of `encode_constant`."""
    if isinstance(given, list):
        return [decode_constant(part) for part in given]
    if isinstance(given, dict):
        return float(given["float"]) if "float" in given else tl.dtype(given["type"])
    return given


def decode_arguments(launch: dict[str, Any], view: Callable[[dict[str, Any]], torch.Tensor]) -> dict[str, Any]:
    """The arguments of a recorded launch, by name; `view` gives the tensor that a description stands for."""

    def decode(given: dict[str, Any]) -> Any:
        if "t" in given:
            return view(given)
        if "descriptor" in given:
            base = given["descriptor"]
            return TensorDescriptor(view(base), base["sizes"], base["strides"], given["block"], given["padding"])
        return float(given["float"]) if "float" in given else given["value"]

    values = {name: decode(given) for name, given in launch["arguments"].items()}
    return values | {name: decode_constant(given) for name, given in launch["constexprs"].items()}
