# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""Makes the names that a kernel uses mean the interpreter's operations while a launch is interpreted.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import types
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import triton.language as tl
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice
from triton.runtime import interpreter
from triton.runtime.interpreter import interpreter_builder, interpreter_semantic

from .batch import Diverged
from .combine import reduce, scan
from .formats import Unsupported, Value

_MISSING = object()
_BUILTINS = {"min": tl.core.builtin_min, "max": tl.core.builtin_max, "print": tl.core.device_print}
"""Python's names that Triton's compiler takes for its own."""
_changes: list[tuple[Any, str, Any, Any]] = []
"""What to set: where, the name, what is there otherwise, and what while a kernel runs. Found once: it takes long."""


@contextmanager
def patched(fn: Any) -> Generator[None]:
    """Change the language, and what the kernel's module took from it by name, while the block lasts."""
    if not _changes:
        _changes.extend(_find())
    names = fn.__globals__
    kept: dict[str, Any] = {}
    for name, value in list(names.items()):
        replacement = _replacement(value)
        if replacement is not None:
            kept[name] = value
            names[name] = replacement
    added = {name: value for name, value in _BUILTINS.items() if name not in names}
    names.update({name: _replacement(value) for name, value in added.items()})
    try:
        for where, name, _, new in _changes:
            setattr(where, name, new)
        yield
    finally:
        for where, name, old, _ in _changes:
            if old is _MISSING:
                delattr(where, name)
            else:
                setattr(where, name, old)
        names.update(kept)
        for name in added:
            names.pop(name, None)


def _find() -> list[tuple[Any, str, Any, Any]]:
    before: dict[tuple[int, str], tuple[Any, Any]] = {}
    scope = interpreter._LangPatchScope()
    set_attr = scope.set_attr

    def noted(where: Any, name: str, value: Any) -> None:
        old = vars(where).get(name, _MISSING) if hasattr(where, "__dict__") else getattr(where, name, _MISSING)
        before.setdefault((id(where), name), (where, old))
        set_attr(where, name, value)

    scope.set_attr = noted
    for module in (tl, tl.core):
        interpreter._patch_builtin(module, interpreter_builder, scope)
        interpreter._patch_lang_tensor(module.tensor, scope)
        interpreter._patch_lang_core(module, scope)
    for module in (tl, tl.core):
        noted(module, "reduce", reduce)
        noted(module, "associative_scan", scan)
    for members in (tl.tensor, tl.math, tl.core.tensor_descriptor_base, cuda_libdevice):
        interpreter._patch_builtin(members, interpreter_builder, scope)
    for name, value in list(vars(cuda_libdevice).items()):
        if isinstance(getattr(libdevice, name, None), types.FunctionType):
            noted(libdevice, name, value)
    # Triton itself asks for the truth of blocks, to find out whether they were given.
    noted(tl.tensor, "__bool__", lambda self: self.type.is_block() or bool(_uniform(self)))
    noted(tl.tensor, "__index__", lambda self: int(_uniform(self)))
    noted(tl.tensor, "T", property(_transposed))
    noted(interpreter_semantic, "load", _load)
    noted(interpreter_semantic, "store", _store)
    changes = [
        (where, name, old, vars(where).get(name, getattr(where, name))) for (_, name), (where, old) in before.items()
    ]
    for where, name, old, _ in changes:
        if old is _MISSING:
            delattr(where, name)
        else:
            setattr(where, name, old)
    return changes


def _replacement(value: Any) -> Any:
    """What a name imported out of the language must mean; none if it needn't change."""
    if not isinstance(value, types.FunctionType):
        return None
    if value.__module__ == libdevice.__name__:
        value = getattr(cuda_libdevice, value.__name__)
    elif not tl.core.is_builtin(value):
        return None

    def call(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("_semantic", None)
        return value(*args, **kwargs, _semantic=interpreter_semantic)

    return {"reduce": reduce, "associative_scan": scan}.get(value.__name__, call)


def _uniform(tensor: Any) -> Any:
    """The one value that all programs have."""
    data = tensor.handle.data
    if data.size == 1:
        return data.reshape(-1)[0]
    if data.size != data.shape[0]:
        raise Unsupported("a block where one number is needed")
    if interpreter_builder.combining:
        raise Unsupported("a combine function that branches on its values: use tl.where")
    data = data.reshape(-1)
    if (data != data[0]).any():
        raise Diverged(data)
    return data[0]


def _transposed(tensor: Any) -> Any:
    order = list(range(len(tensor.shape)))
    order[-2:] = reversed(order[-2:])
    return tl.permute(tensor, order)


# Triton asks for the truth of a scalar mask to find its type, which would part the programs.


def _load(ptr: Any, mask: Any, other: Any, cache_policy: Any, is_volatile: Any) -> Any:
    semantic = interpreter_semantic
    plain = type(semantic).load
    if ptr.type.is_block() or mask is None:
        return plain(semantic, ptr, mask, other, cache_policy, is_volatile)
    one = [1]
    other = None if other is None else _block(other)
    block = plain(semantic, semantic.splat(ptr, one), _block(mask), other, cache_policy, is_volatile)
    return _scalar(block)


def _store(ptr: Any, val: Any, mask: Any, cache_policy: Any) -> Any:
    semantic = interpreter_semantic
    plain = type(semantic).store
    if ptr.type.is_block() or mask is None:
        return plain(semantic, ptr, val, mask, cache_policy)
    return plain(semantic, semantic.splat(ptr, [1]), _block(val), _block(mask), cache_policy)


def _block(scalar: Any) -> Any:
    if scalar.type.is_block():
        raise ValueError("a block as mask or value of a single pointer")
    return interpreter_semantic.splat(scalar, [1])


def _scalar(block: Any) -> Any:
    return tl.tensor(Value(block.handle.data[:, 0], block.dtype), block.dtype)
