# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
"""What a submission is given, as JSON with the tensors apart, and sizes as flat names.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from typing import Any

import torch


class Unsupported(Exception):
    """Something that a problem's inputs or output can't be made of here."""


def flatten(data: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Take the tensors out of `data`.

    Returns:
        The plan that `build` puts together again, and the tensors by name: the path to each, or `input`.

    Raises:
        Unsupported: it holds what JSON doesn't.
    """
    tensors: dict[str, torch.Tensor] = {}
    return _flatten(data, (), tensors), tensors


def _flatten(value: Any, path: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = ".".join(path) or "input"
        while name in tensors:
            name += "_"
        tensors[name] = value.detach()
        return {"tensor": name}
    if isinstance(value, tuple):
        return {"tuple": [_flatten(part, (*path, str(i)), tensors) for i, part in enumerate(value)]}
    if isinstance(value, list):
        return [_flatten(part, (*path, str(i)), tensors) for i, part in enumerate(value)]
    if isinstance(value, dict):
        if set(value) in ({"tensor"}, {"tuple"}) or not all(isinstance(key, str) for key in value):
            raise Unsupported(f"a dict with the keys {list(value)[:5]}, expected names other than 'tensor' and 'tuple'")
        return {key: _flatten(part, (*path, key), tensors) for key, part in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Unsupported(f"a {type(value).__name__}, expected tensors, numbers, text, and lists, tuples and dicts of them")


def build(plan: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Put `data` together."""
    if isinstance(plan, dict):
        if set(plan) == {"tensor"}:
            return tensors[plan["tensor"]]
        if set(plan) == {"tuple"}:
            return tuple(build(part, tensors) for part in plan["tuple"])
        return {key: build(value, tensors) for key, value in plan.items()}
    return [build(part, tensors) for part in plan] if isinstance(plan, list) else plan


def gather(parameters: dict[str, Any]) -> dict[str, Any]:
    """Undo what made lists flat: `{"sizes.0": 3, "sizes.1": 4}` becomes `{"sizes": [3, 4]}`."""
    whole: dict[str, Any] = {}
    for name, value in parameters.items():
        first, dot, place = name.partition(".")
        if dot and place.isdigit():
            whole.setdefault(first, []).append(value)
        else:
            whole[name] = value
    return whole


def single(output: Any) -> torch.Tensor:
    """The one tensor of an output.

    Raises:
        Unsupported: it is none, or several.
    """
    if isinstance(output, (tuple, list)) and len(output) == 1:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        several = f" of {len(output)}" if isinstance(output, (tuple, list, dict)) else ""
        raise Unsupported(f"the reference returns a {type(output).__name__}{several}, expected one tensor")
    return output.detach()


def dtype_name(tensor: torch.Tensor) -> str:
    """Such as `float32`."""
    return str(tensor.dtype).removeprefix("torch.")


_PLAIN = frozenset({
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool,
})  # fmt: skip


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in a type that NumPy has."""
    tensor = tensor if tensor.dtype in _PLAIN else tensor.to(torch.float32)
    return tensor.contiguous().clone()
