# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false
# ruff: noqa: D102
"""Records what a submission does, as steps over storages, so that a process without its code can do the same.

A step is a torch operator that computes something or a launch of a Triton kernel. Tensors are views of numbered
storages; an operator that only makes a view is no step. Kernels aren't run here, unless the submission reads values
back: nothing that this process computes is graded.

`lazy` records at sizes that no memory holds: large storages are address space only, which reads as zeros, unless they
are inputs that were given values; of operators on them only the shapes are worked out.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import math
import mmap
import warnings
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map
from triton.runtime.interpreter import InterpretedFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from . import interpret
from .operands import Rejected, encode_constant, encode_scalar

LARGE = 1 << 22
"""Bytes from which a storage has no memory, in a lazy recording."""
CONSTANTS = 64 << 10
"""Bytes of values that come neither from the inputs nor from a step."""
STEPS = 32_768
_VIEWS = ("_unsafe_view", "_reshape_alias", "lift_fresh", "detach", "alias")
"""Operators whose result is a view although their schema doesn't say so."""
_READ = ("_local_scalar_dense", "equal", "nonzero", "masked_select", "unique", "_unique2", "bincount", "is_nonzero")
"""Operators whose result, or its shape, is known to the host only once values are."""


class NeedsValues(BaseException):
    """The host code reads values that a kernel would have written; record again with the kernels run."""


class Recorder(TorchDispatchMode):
    """Notes every step while it is active."""

    def __init__(self, *, lazy: bool, execute: bool, configs: dict[str, int]) -> None:
        super().__init__()
        self.steps: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        """Bytes of each storage."""
        self.constants: dict[int, torch.Tensor] = {}
        self.choices: dict[str, int] = {}
        """For each autotuned kernel, how many configurations it may choose from."""
        self._lazy, self._execute, self._configs = lazy, execute, configs
        self._numbers: dict[int, int] = {}
        self._held: set[int] = set()
        """Inputs that were given values, and so have memory."""
        self._kept: list[Any] = []  # a storage's identity is its address, so none may be freed and used again
        self._skipped = False
        self._regions, self._region, self._depth = 0, None, 0
        self._run = InterpretedFunction.run

    # --- what the pretence tells ---

    def enter(self) -> None:
        if self._depth == 0:
            self._regions += 1
            self._region = self._regions
        self._depth += 1

    def leave(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._region = None

    def tuned(self, kernel: str, count: int) -> int:
        self.choices[kernel] = max(count, self.choices.get(kernel, 0))
        return min(self._configs.get(kernel, 0), count - 1)

    def read(self, name: str) -> None:
        """Values come to the host: they must be the ones that the kernels would have written."""
        if self._skipped and not self._execute and not self._lazy:
            raise NeedsValues(name)

    # --- storages ---

    def place(self, sizes: list[int], dtype: torch.dtype, values: torch.Tensor | None = None) -> torch.Tensor:
        """A tensor for an input, with or without values."""
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            tensor = self._empty(sizes, _contiguous(sizes), dtype, held=values is not None)
            if values is not None:
                tensor.copy_(values)
                self._held.add(self._number(tensor))
            self._number(tensor)
        return tensor

    def refill(self, tensor: torch.Tensor, values: torch.Tensor | None) -> None:
        """Give an input new values where it is.

        Raises:
            ValueError: it was placed without values and has no memory.
        """
        if values is not None:
            large = tensor.untyped_storage().nbytes() >= LARGE
            if self._lazy and large and self._number(tensor) not in self._held:
                raise ValueError("an input without memory can't be given values: give it some when it is placed")
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                tensor.copy_(values)

    def describe(self, tensor: torch.Tensor) -> dict[str, Any]:
        """A tensor as a view of a numbered storage."""
        return {
            "t": self._number(tensor), "dtype": _name(tensor.dtype), "offset": tensor.storage_offset(),
            "sizes": list(tensor.size()), "strides": list(tensor.stride()),
        }  # fmt: skip

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor's storage came of an input or a step."""
        return tensor.untyped_storage()._cdata in self._numbers

    def _number(self, tensor: torch.Tensor, constant: bool = False) -> int:
        storage = tensor.untyped_storage()
        number = self._numbers.get(storage._cdata)
        if number is None:
            number = self._numbers[storage._cdata] = len(self.sizes)
            self._kept.append(storage)
            self.sizes.append(storage.nbytes())
            if constant:
                self._keep_constant(number, storage)
        return number

    def _keep_constant(self, number: int, storage: Any) -> None:
        whole = sum(value.numel() for value in self.constants.values()) + storage.nbytes()
        if whole > CONSTANTS:
            raise Rejected(
                "untraced-data",
                f"it brings {whole} bytes of values that come of no input and no torch operator, at most {CONSTANTS} "
                "are allowed: compute with torch operators and Triton kernels on tensors",
            )
        with torch._C.DisableTorchFunction(), _disable_current_modes():  # a launch comes here with the modes on
            held = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,))
            self.constants[number] = held.clone()

    def _empty(self, sizes: list[int], strides: list[int], dtype: torch.dtype, *, held: bool = False) -> torch.Tensor:
        extent = 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) if math.prod(sizes) else 0
        count = extent * dtype.itemsize
        if held or not self._lazy or count < LARGE:
            return _over(torch.zeros(max(count, 1), dtype=torch.uint8), dtype, sizes, strides)
        # Private pages that can't be written are never anyone's: the kernel backs them all by its one page of zeros.
        room = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it can't be written is what is wanted
            return _over(torch.frombuffer(room, dtype=torch.uint8), dtype, sizes, strides)

    # --- steps ---

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        returns = func._schema.returns
        if name in _VIEWS or any(r.alias_info is not None and not r.alias_info.is_write for r in returns):
            return func(*args, **kwargs)
        if name in _READ:
            self.read(name)
        given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
        described = None
        if name not in ("_local_scalar_dense", "equal", "is_nonzero"):
            # Before it runs: an operator may change the shape of what it is given.
            described = [self._argument(args), self._argument(kwargs)]
        known = [t.untyped_storage()._cdata for t in given]
        result = self._infer(func, args, kwargs, given) if self._lazy else func(*args, **kwargs)
        if described is None:
            return result
        outs = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, torch.Tensor)]
        fresh = [out.untyped_storage()._cdata not in known and not self.knows(out) for out in outs]
        mutates = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
        if any(fresh) or mutates:
            self._step({
                "op": str(func), "args": described[0], "kwargs": described[1], "region": self._region,
                "outs": [self.describe(out) if new else None for out, new in zip(outs, fresh, strict=True)],
            })  # fmt: skip
        return result

    def _step(self, step: dict[str, Any]) -> None:
        self.steps.append(step)
        if len(self.steps) > STEPS:
            raise Rejected("too-many-steps", f"more than {STEPS} operators and launches")

    def _argument(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            self._number(value, constant=True)
            return self.describe(value)
        if isinstance(value, dict):
            return {key: self._argument(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._argument(part) for part in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
            kind = {torch.dtype: "dtype", torch.memory_format: "memory_format", torch.layout: "layout"}[type(value)]
            return {kind: str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": "cpu"}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, torch.Generator):
            return None
        raise Rejected("unsupported-argument", f"an operator's argument is a {type(value).__name__}")

    def _infer(self, func: Any, args: Any, kwargs: Any, given: list[torch.Tensor]) -> Any:
        """Run an operator if what it touches is small, else work out the shapes of its results."""

        def meta(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                whole = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
                shapes.append((whole, value))
                return whole
            return torch.device("meta") if isinstance(value, torch.device) else value

        shapes: list[tuple[torch.Tensor, torch.Tensor]] = []
        name = func.overloadpacket.__name__
        if name in _READ:
            if any(t.untyped_storage().nbytes() >= LARGE for t in given) and name != "_local_scalar_dense":
                raise Rejected("reads-values", f"its host code needs the values of a large tensor ({func})")
            return func(*args, **kwargs)
        try:
            inferred = func(*tree_map(meta, args), **tree_map(meta, kwargs))
        except Exception as error:
            if all(t.untyped_storage().nbytes() < LARGE for t in given):
                return func(*args, **kwargs)
            raise Rejected("unsupported-operator", f"{func}: {type(error).__name__}: {error}"[:400]) from None
        outs = [leaf for leaf in tree_flatten(inferred)[0] if isinstance(leaf, torch.Tensor)]
        sizes = [t.untyped_storage().nbytes() for t in (*given, *outs)]
        if max(sizes, default=0) < LARGE:
            return func(*args, **kwargs)
        same = {id(whole): value for whole, value in shapes}

        def real(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                found = same.get(id(value))
                return (
                    found if found is not None else self._empty(list(value.size()), list(value.stride()), value.dtype)
                )
            return value

        return tree_map(real, inferred)

    def launch(self, kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], grid: Any) -> None:
        """Note a launch; run it too if the submission reads values back."""
        arguments, options = interpret.bind(kernel, args, kwargs)
        fixed = interpret.constexprs(kernel)
        self._step({
            "kernel": kernel.fn.__name__,
            "grid": list(interpret.full_grid(grid, arguments)),
            "arguments": {name: self._operand(value) for name, value in arguments.items() if name not in fixed},
            "constexprs": {name: encode_constant(arguments[name]) for name in sorted(fixed) if name in arguments},
            "options": {name: value for name, value in sorted(options.items()) if isinstance(value, (int, str, bool))},
        })  # fmt: skip
        if self._execute and not self._lazy:
            with _disable_current_modes():
                self._run(kernel, *args, grid=grid, warmup=False, **kwargs)
        else:
            self._skipped = True

    def _operand(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            self._number(value, constant=True)
            return self.describe(value)
        if isinstance(value, TensorDescriptor):
            base = self._operand(value.base) | {"sizes": list(value.shape), "strides": list(value.strides)}
            return {"descriptor": base, "block": list(value.block_shape), "padding": value.padding}
        return encode_scalar(value)


def _over(room: torch.Tensor, dtype: torch.dtype, sizes: list[int], strides: list[int]) -> torch.Tensor:
    return torch.empty(0, dtype=dtype).set_(room.untyped_storage(), 0, sizes, strides)


def _contiguous(sizes: list[int]) -> list[int]:
    strides = [1] * len(sizes)
    for axis in range(len(sizes) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(sizes[axis + 1], 1)
    return strides


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def warm_up() -> None:
    """Record a little, once: torch loads what tensors without memory need at their first operator."""
    recorder = Recorder(lazy=True, execute=False, configs={})
    x = recorder.place([2048, 2048], torch.float32)
    with recorder:
        torch.cat([x, x.to(torch.float16).contiguous().float()]).sum()
        torch.zeros_like(x @ x + x).copy_(x)
