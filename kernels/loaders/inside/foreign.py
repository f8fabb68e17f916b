# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownLambdaType=false
# pyright: reportPrivateUsage=false
"""A foreign problem's code, imported: a folder's `reference.py`, or a file with `Model`.

Both come down to `draw(parameters)`, which gives what a submission gets, and `run(data)`, which gives the output.
This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .structure import gather

_MODEL_SEED = 42
"""Of what a model draws beside its parameters, which come with the data."""
RUNNING = ("running_mean", "running_var", "num_batches_tracked")
"""Statistics that a normalisation in training mode writes and doesn't read."""


class Foreign:
    """One problem's code."""

    def __init__(self, request: dict[str, Any], scratch: Path) -> None:
        """Import what the request brings: `format`, `modules` (text by name) and `reference` (text)."""
        self._promised: dict[str, float] | None = None
        """What `make_match_reference` was asked to allow."""
        self._noted: list[dict[str, float]] = []
        """What a check allowed, in the order in which it said so."""
        self._inside = False
        for name, text in request["modules"].items():
            module = sys.modules[name] = types.ModuleType(name)
            _execute(text, module, scratch / f"{name}.py")
            if name == "utils":
                self._watch(module)
        self._watch_torch()
        self._text, self._scratch = request["reference"], scratch
        self.draw: Callable[[dict[str, Any], int], Any]
        self.run: Callable[[Any], Any]
        if request["format"] == "gpu-mode":
            self._module = sys.modules["reference"] = types.ModuleType("reference")
            _execute(self._text, self._module, scratch / "reference.py")
            self.draw, self.run = self._generate, lambda data: self._module.ref_kernel(data)
        else:
            self.draw, self.run = self._draw_model, self._run_model

    def allowed(self, data: Any, output: Any) -> dict[str, float] | None:
        """What the problem's own check allows of an output; none where it doesn't say."""
        if self._promised is None and hasattr(self._module, "check_implementation"):
            self._noted.clear()
            with contextlib.suppress(Exception):
                self._module.check_implementation(data, output)
            return self._noted[-1] if self._noted else None
        return self._promised

    # --- a folder ---

    def _generate(self, parameters: dict[str, Any], seed: int) -> Any:
        function = self._module.generate_input
        given = gather(parameters)
        names = inspect.signature(function).parameters
        if "seed" in names or any(p.kind is p.VAR_KEYWORD for p in names.values()):
            given["seed"] = seed % (1 << 31)
        _seed(seed)
        return function(**given)

    # --- a file with Model ---

    def _namespace(self, parameters: dict[str, Any]) -> types.ModuleType:
        module = sys.modules["reference"] = types.ModuleType("reference")
        _execute(replace_constants(self._text, parameters), module, self._scratch / "reference.py")
        return module

    def _draw_model(self, parameters: dict[str, Any], seed: int) -> Any:
        self._module = self._namespace(parameters)
        _seed(seed)
        init = self._module.get_init_inputs()
        args, kwargs = constructor(init)
        model = self._module.Model(*args, **kwargs)
        _seed(seed + 1)
        inputs = list(self._module.get_inputs())
        return {"init": init, "inputs": inputs, "state": state_of(model)}

    def _run_model(self, data: Any) -> Any:
        args, kwargs = constructor(data["init"])
        _seed(_MODEL_SEED)
        model = self._module.Model(*args, **kwargs)
        model.load_state_dict(data["state"], strict=False, assign=True)
        _seed(_MODEL_SEED)
        return model(*data["inputs"])

    def prepare(self, parameters: dict[str, Any]) -> None:
        """Get ready to run on data that was drawn elsewhere."""
        if not hasattr(self, "_module"):
            self._module = self._namespace(parameters)

    # --- tolerances ---

    def _watch(self, utils: types.ModuleType) -> None:
        """Note what the usual checks are asked to allow."""
        match = getattr(utils, "match_reference", None)
        defaults = _defaults(match) if callable(match) else {}
        for name in ("match_reference", "verbose_allclose", "verbose_allequal"):
            function = getattr(utils, name, None)
            if callable(function):
                setattr(utils, name, self._noting(function, _names(function), exact=name == "verbose_allequal"))
        make = getattr(utils, "make_match_reference", None)
        if callable(make):

            def noting(*args: Any, **kwargs: Any) -> Any:
                self._promised = _rule(defaults | kwargs)
                return make(*args, **kwargs)

            utils.make_match_reference = noting  # type: ignore[attr-defined]

    def _watch_torch(self) -> None:
        names = ["input", "other", "rtol", "atol"]
        for name in ("allclose", "isclose", "equal"):
            setattr(torch, name, self._noting(getattr(torch, name), names, exact=name == "equal"))
        close = torch.testing.assert_close
        torch.testing.assert_close = self._noting(close, _names(close))  # type: ignore[assignment]

    def _noting(self, function: Callable[..., Any], names: list[str], exact: bool = False) -> Callable[..., Any]:
        defaults = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-5, "atol": 1e-8} | _defaults(function)

        def noting(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            rule = _rule(defaults | dict(zip(names, args, strict=False)) | kwargs)
            self._noted += [rule] if rule else []
            self._inside = True
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False

        return noting


def _rule(given: dict[str, Any]) -> dict[str, float] | None:
    found = {name: given[name] for name in ("rtol", "atol") if isinstance(given.get(name), (int, float))}
    return {name: float(value) for name, value in found.items()} if len(found) == 2 else None


def _names(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _defaults(function: Any) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # torch's own, in C
        return {}
    return {name: p.default for name, p in parameters.items() if name in ("rtol", "atol") and p.default is not p.empty}


def constructor(init: Any) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments of a model's constructor, from what `get_init_inputs` gives."""
    if isinstance(init, dict):
        return [], init
    if isinstance(init, (list, tuple)) and len(init) == 2 and isinstance(init[0], list) and isinstance(init[1], dict):
        return init[0], init[1]
    return list(init), {}


def state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, but for statistics that the model only writes."""
    skipped = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if module.training and isinstance(module, torch.nn.modules.batchnorm._NormBase)
        for name in RUNNING
    }
    return {name: t.detach() for name, t in model.state_dict().items() if name not in skipped}


def _execute(text: str, module: types.ModuleType, path: Path) -> None:
    path.write_text(text)  # so that inspect.getsource and a message's line find it
    module.__file__ = str(path)
    exec(compile(text, str(path), "exec"), module.__dict__)  # noqa: S102 - it is what the sandbox is for


def _seed(seed: int) -> None:
    """Seed every generator that code might draw from without saying so."""
    torch.manual_seed(seed % (1 << 63))
    np.random.seed(seed % (1 << 32))
    random.seed(seed)


def replace_constants(text: str, parameters: dict[str, Any]) -> str:
    """Write other integers into a module's top-level assignments; see `constants.constants_of`."""
    wanted = gather(parameters)
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value = wanted.get(node.targets[0].id)
            if value is not None:
                node.value = ast.copy_location(ast.parse(repr(value), mode="eval").body, node.value)
    return ast.unparse(ast.fix_missing_locations(tree))
