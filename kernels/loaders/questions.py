"""What is asked of a foreign problem's code in the sandbox, and how its answers are read."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ...core import ConfigurationError
from ..problem import TensorSpec
from .process import ForeignProcess
from .source import ForeignSource, Parameters

if TYPE_CHECKING:
    from ..problem import Arrays

SMALL: dict[str, JsonValue] = {"bytes": 4 << 20, "flops": 5e8}
"""What a case that is interpreted may hold and compute."""
FULL = 53
"""Significant bits of fp64."""


class Rule(BaseModel):
    """What a problem's own check allows: `atol + rtol * |reference|` for each element."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rtol: float = Field(ge=0)
    atol: float = Field(ge=0)


class Figures(BaseModel):
    """What describing a case found."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    plan: JsonValue
    specs: dict[str, TensorSpec]
    output: TensorSpec
    flops: float = Field(ge=0)
    moved: float = Field(ge=0)
    """Bytes: inputs that the reference reads, and the output."""
    bytes: float = Field(ge=0)
    """Of all inputs and the output."""
    read: frozenset[str]
    written: frozenset[str]
    small: bool = False
    finite: bool = True
    """Whether the reference, where it was run, gave finite values."""
    tolerances: tuple[Rule, ...] = ()

    @property
    def dtypes(self) -> frozenset[str]:
        """Of inputs and output."""
        return frozenset({self.output.dtype, *(spec.dtype for spec in self.specs.values())})


class Questions:
    """One problem's code, asked; descriptions are asked for once."""

    def __init__(self, source: ForeignSource, process: ForeignProcess) -> None:
        self._source, self._process = source, process
        self._known: dict[str, Figures | str] = {}
        self._lock = threading.RLock()

    def describe(self, cases: Sequence[Parameters], small: bool = False) -> list[Figures | str]:
        """What each case takes, or why it is refused; with `small`, those that are small are run, too."""
        keys = [f"{small} {sorted(parameters.items())}" for parameters in cases]
        with self._lock:
            new = {key: each for key, each in zip(keys, cases, strict=True) if key not in self._known}
            if new:
                most: JsonValue = SMALL if small else None
                asked: list[JsonValue] = [{"parameters": dict(each), "most": most} for each in new.values()]
                told, _ = self._ask({"kind": "describe", "cases": asked}, b"")
                answers = told.get("cases")
                if not isinstance(answers, list) or len(answers) != len(new):
                    why = str(told.get("error", "no answer"))[:800]
                    raise ConfigurationError(f"{self._source.path}: it can't be run: {why}.")
                self._known |= {key: _read(answer) for key, answer in zip(new, answers, strict=True)}
            return [self._known[key] for key in keys]

    def inputs(self, parameters: Parameters, seed: int) -> "Arrays":
        """The inputs that the problem draws with a seed.

        Raises:
            ConfigurationError: its code fails.
        """
        request: dict[str, JsonValue] = {"kind": "inputs", "parameters": dict(parameters), "seed": seed}
        return self._arrays(request, b"", f"generate_input for {parameters}")[1]

    def reference(
        self, parameters: Parameters, figures: Figures, inputs: "Arrays", *, bits: int = FULL, native: bool = False
    ) -> tuple["Arrays", str]:
        """The reference's output, as `output`, and why it was not run in fp64, or nothing.

        Args:
            parameters: of the case.
            figures: of the case.
            inputs: by name.
            bits: significant bits that products keep.
            native: run as written.

        Raises:
            ConfigurationError: the problem's code fails.
        """
        import numpy as np
        from safetensors.numpy import save

        request: dict[str, JsonValue] = {
            "kind": "reference",
            "parameters": dict(parameters),
            "plan": figures.plan,
            "specs": {name: spec.model_dump(mode="json") for name, spec in figures.specs.items()},
            "bits": bits,
            "native": native,
        }
        blob = save({name: np.ascontiguousarray(array) for name, array in inputs.items()})
        told, arrays = self._arrays(request, blob, f"the reference for {parameters}")
        if "output" not in arrays:
            raise ConfigurationError(f"{self._source.path}: the reference for {parameters} gave no output.")
        return arrays, "" if told.get("wide") is True else str(told.get("reason"))[:800]

    def _arrays(self, request: dict[str, JsonValue], blob: bytes, what: str) -> "tuple[dict[str, JsonValue], Arrays]":
        from safetensors.numpy import load

        from ...safety.sandbox.tensors import parse_safetensors

        told, outputs = self._ask(request, blob)
        if "error" in told:
            raise ConfigurationError(f"{self._source.path}: {what} failed: {str(told['error'])[:800]}.")
        try:
            parse_safetensors(outputs)
            return told, load(outputs)
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"{self._source.path}: {what} gave no tensors: {error}.") from None

    def _ask(self, request: dict[str, JsonValue], blob: bytes) -> tuple[dict[str, JsonValue], bytes]:
        code: dict[str, JsonValue] = {
            "format": self._source.format.value,
            "modules": dict(self._source.modules),
            "reference": self._source.reference,
        }
        return self._process.ask(request | code, blob)


def _read(answer: JsonValue) -> Figures | str:
    if isinstance(answer, dict) and "error" in answer:
        return str(answer["error"])[:800]
    try:
        return Figures.model_validate(answer)
    except ValidationError as error:
        return f"an answer that can't be read: {error.error_count()} mistakes"
