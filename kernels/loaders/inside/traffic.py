# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportMissingParameterType=false, reportUnknownParameterType=false, reportIncompatibleMethodOverride=false
"""Which inputs a reference reads, and which it writes.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_PICKS = ("embedding", "index", "gather", "take", "select_scatter", "_embedding_bag")
"""Operators that read no more of their first tensor than what they give."""
_OVERWRITES = ("copy_", "fill_", "zero_")
"""Operators that don't read what they write to."""


class Traffic(TorchDispatchMode):
    """Notes reads and writes of the given tensors, by storage."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.read: dict[str, int] = {}
        """Bytes that are read at least, of each tensor that is read."""
        self.written: set[str] = set()
        self._bytes = {name: t.numel() * t.element_size() for name, t in tensors.items()}
        self._names = {t.untyped_storage()._cdata: name for name, t in tensors.items()}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        returns = func._schema.returns
        if any(r.alias_info is not None and not r.alias_info.is_write for r in returns):
            return out  # a view
        name = func.overloadpacket.__name__
        given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        for place, argument in enumerate(func._schema.arguments):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            for tensor in tree_leaves(given.get(argument.name)):
                held = self._names.get(tensor.untyped_storage()._cdata) if isinstance(tensor, torch.Tensor) else None
                if held is None:
                    continue
                if writes:
                    self.written.add(held)
                if not (writes and (name in _OVERWRITES or argument.name == "out")):
                    picked = _bytes(out) if name.startswith(_PICKS) and place == 0 else self._bytes[held]
                    self.read[held] = min(self._bytes[held], self.read.get(held, 0) + picked)
        return out


def _bytes(out: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tree_leaves(out) if isinstance(t, torch.Tensor))
