"""A problem that others wrote, as a `KernelProblem`: its code runs in the sandbox, and gives bytes.

The reference runs in fp64: what it is given is widened, and every narrower type that it names means fp64, unless it
refuses that or means something else by it; then it runs as written (`ForeignProblem.wide` says which). The schedule
space is empty, and the seed is the reference itself, as a submission in plain torch.
"""

import ast
import math
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from ...core import ConfigurationError, derive_seed
from ..problem import Distribution, Precision, Rounding, TensorSpec, Tolerance, TritonRule, Variant, exact
from ..schedule import Schedule, ScheduleSpace
from .process import ForeignProcess, shared_process
from .source import ForeignSource, Format, Parameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

SMALL: dict[str, JsonValue] = {"bytes": 4 << 20, "flops": 5e8}
"""What a case that is interpreted may hold and compute."""
_CAPS = (16, 32, 64, 128, 256, 512, 1024, 4096)
_LEAST = 8
"""Integers below this choose a kernel size, a number of heads or an axis, and are left as they are."""
_CASES = 4
_PROMISED = 32
"""Sizes that public cases give only in multiples of more than this are taken for a promise of the problem's."""
_HALF = {"float16": 5e-3, "bfloat16": 2e-2}
_BY_HALVES = 1e-3
"""A public tolerance from which half precision is within the contract."""


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    rtol: float
    atol: float


class Figures(BaseModel):
    """What describing a case found."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    plan: JsonValue
    specs: dict[str, TensorSpec]
    output: TensorSpec
    flops: float
    moved: float
    """Bytes: inputs that the reference reads, and the output."""
    bytes: float
    read: frozenset[str]
    written: frozenset[str]
    strided: tuple[str, ...] = ()
    small: bool = False
    finite: bool = True
    tolerances: tuple[_Rule, ...] = ()


@dataclass(frozen=True)
class _Size:
    """One parameter that public cases give several values."""

    values: tuple[int, ...]
    ragged: bool
    """Whether it may be odd."""


class ForeignProblem:
    """A GPU MODE folder or a KernelBench file; `load_problem` makes one."""

    space = ScheduleSpace(fields=())
    triton = TritonRule()

    def __init__(self, source: ForeignSource, process: ForeignProcess | None = None) -> None:
        """Take what was read; nothing runs until it is asked for."""
        self.name = source.name
        self.about = source.about
        self.modules: Mapping[str, str] = source.modules
        """Text by name of what a submission may import beside torch and Triton, in the order of their imports."""
        self.source = source
        self._process = process or shared_process()
        self._known: dict[str, Figures | str] = {}
        self._lock = threading.RLock()
        self._narrow: str | None = None
        self._checked: dict[str, Figures] = {}

    # --- submissions ---

    def seed_source(self) -> str:
        """The reference as a submission, in plain torch."""
        return self.source.seed

    def render(self, schedule: Schedule) -> str:
        """The seed, which is all that an empty space holds.

        Raises:
            ConfigurationError: the schedule names a field.
        """
        self.space.validate_schedule(schedule)
        return self.seed_source()

    def complete(self, submission: str) -> str:
        """A submission as the verifier takes it: with what makes `custom_kernel` of a `ModelNew` behind it."""
        try:
            names = {
                node.name for node in ast.parse(submission).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
            }
            assigned = {
                target.id
                for node in ast.parse(submission).body
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return submission  # which the verifier says better
        names |= assigned
        if not self.source.epilogue or "custom_kernel" in names or "ModelNew" not in names:
            return submission
        return f"{submission.rstrip()}\n\n\n{self.source.epilogue}"

    # --- variants ---

    def tests(self) -> Sequence[Variant]:
        """The public tests, each once whatever its seeds."""
        return self._variants(self.source.tests)

    def benchmark(self) -> Sequence[Variant]:
        """The public benchmark shapes."""
        return self._variants(self.source.benchmarks)

    def correctness(self, seed: int = 0) -> Sequence[Variant]:
        """The smallest tests, shrunk where they are large, and as many with an odd size that the reference accepts.

        Raises:
            ConfigurationError: the reference runs on no small case.
        """
        bases = self._bases()
        draw = random.Random(derive_seed(seed, "odd", self.name))
        names = [name for name, size in self._sizes.items() if size.ragged]
        wanted = [
            other
            for name in draw.sample(names, len(names))
            for base in reversed(bases)
            for other in [self._changed(base, name, draw)]
        ]
        found = self._describe(wanted, small=True)
        cases = list(bases)
        for parameters, figures in found:
            if len(cases) < _CASES and isinstance(figures, Figures) and figures.small and parameters not in cases:
                cases.append(parameters)
        return self._variants(cases)

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream: benchmark shapes with one size changed.

        A change that the reference refuses is left out.
        """
        wanted: list[tuple[Parameters, Parameters]] = []
        for index in range(start, start + count):
            draw = random.Random(derive_seed(seed, "variant", self.name, index))
            base = draw.choice(self.source.benchmarks)
            names = [name for name in self._sizes if name in base]
            wanted.append((base, self._changed(base, draw.choice(names), draw) if names else base))
        found = self._describe([odd for _, odd in wanted])
        chosen = [
            odd if isinstance(figures, Figures) else base
            for (base, odd), (_, figures) in zip(wanted, found, strict=True)
        ]
        return [self._variant(parameters) for parameters in chosen]

    def smaller(self, variant: Variant) -> Sequence[Variant]:
        """Variants with the sizes capped that public cases vary, from a cheap one upwards to the variant itself."""
        tried = self._capped(variant.parameters, _CAPS)
        found = [(p, f) for p, f in self._describe(tried) if isinstance(f, Figures)]
        whole = self.figures(variant).bytes
        found = sorted(
            (each for each in found if each[1].bytes < whole), key=lambda each: (each[1].bytes, str(each[0]))
        )
        return [*(variant.model_copy(update={"parameters": parameters}) for parameters, _ in found), variant]

    def slice_of(self, variant: Variant) -> str:
        """`small` or `large`, by whether inputs and output take more than 512 MiB."""
        return "small" if self.figures(variant).bytes < 1 << 29 else "large"

    # --- one variant ---

    def figures(self, variant: Variant) -> Figures:
        """What is known of a variant without its values.

        Raises:
            ConfigurationError: the problem's code refuses it; the message names the file.
        """
        ((_, found),) = self._describe([variant.parameters])
        if isinstance(found, str):
            raise ConfigurationError(
                f"{self.source.path}: it doesn't run for {variant}: {found}. "
                "Expected inputs and one output tensor, made by torch on a CPU that stands in for the GPU."
            )
        return found

    def specs(self, variant: Variant) -> dict[str, TensorSpec]:
        """The inputs by their place in `data`, such as `0` or `2.norm.weight`."""
        return dict(self.figures(variant).specs)

    def output(self, variant: Variant) -> TensorSpec:
        """What the reference returns."""
        return self.figures(variant).output

    def arguments(self, variant: Variant) -> JsonValue:
        """How `data` is built from the inputs."""
        return self.figures(variant).plan

    def weights(self, variant: Variant) -> frozenset[str]:
        """A model's state; of a folder what lies in a dict under a name that says weight or bias."""
        names = self.figures(variant).specs
        if self.source.format is Format.KERNEL_BENCH:
            return frozenset(name for name in names if name.startswith("state."))
        return frozenset(n for n in names if n.rpartition(".")[2].lower().endswith(("weight", "weights", "bias")))

    def buffers(self, variant: Variant) -> frozenset[str]:
        """Inputs that are room for the output, which a submission may write to and return."""
        figures = self.figures(variant)
        result = figures.output
        return frozenset(
            name
            for name, spec in figures.specs.items()
            if name in figures.written
            or (name not in figures.read and spec.dtype == result.dtype and _count(spec) == _count(result))
        )

    def flops(self, variant: Variant) -> float:
        """Of the reference's matrix products and convolutions."""
        return self.figures(variant).flops

    def least_bytes(self, variant: Variant) -> float:
        """What the reference reads of its inputs, each once, and the output."""
        return self.figures(variant).moved

    def tolerance(self, precision: Precision) -> Tolerance:
        """The public one for every element, and a limit on the relative error by the contract and the types.

        Where the problem's own check names no tolerance: KernelBench's, 1e-4, and 1e-2 with half precision.
        """
        figures = next(iter(self._small_figures().values()))
        half = precision is Precision.FP16
        rule = max(
            (rule for each in self._small_figures().values() for rule in each.tolerances),
            key=lambda rule: (rule.rtol, rule.atol),
            default=_Rule(rtol=1e-2, atol=1e-2) if half else _Rule(rtol=1e-4, atol=1e-4),
        )
        narrowest = max((_HALF.get(dtype, 0.0) for dtype in _dtypes(figures)), default=0.0)
        limit = max(narrowest, 5e-3) if half else 5e-5
        slope = 2e-3 if narrowest < _HALF["bfloat16"] else 4e-3
        return Tolerance(rtol=rule.rtol, atol=rule.atol, relative_l2=limit, slope=slope, budget=10.0 if half else None)

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Let the problem draw its inputs, from generators that are all seeded with `seed`.

        A type that NumPy lacks (bfloat16, eight-bit floats) comes as float32 that holds the same values.

        Raises:
            ConfigurationError: the problem's code fails.
        """
        request: dict[str, JsonValue] = {"kind": "inputs", "parameters": dict(variant.parameters), "seed": seed}
        _, arrays = self._arrays(request, b"", f"inputs of {variant}")
        return arrays

    def reference(self, variant: Variant, inputs: "Arrays", rounding: Rounding = exact) -> "NDArray[np.float64]":
        """Run the reference on these inputs; with a rounding, with products rounded to as many significant bits.

        Raises:
            ConfigurationError: the problem's code fails.
        """
        import numpy as np
        from safetensors.numpy import save

        figures = self.figures(variant)
        bits = _significant_bits(rounding)
        if bits < _significant_bits(exact) and "bfloat16" in _dtypes(figures):
            bits = min(bits, 8)
        request: dict[str, JsonValue] = {
            "kind": "reference",
            "parameters": dict(variant.parameters),
            "plan": figures.plan,
            "specs": {name: spec.model_dump(mode="json") for name, spec in figures.specs.items()},
            "bits": bits,
            "native": self.wide is False,
        }
        blob = save({name: np.ascontiguousarray(array) for name, array in inputs.items()})
        _, arrays = self._arrays(request, blob, f"the reference on {variant}")
        return arrays["output"].astype(np.float64)

    @property
    def wide(self) -> bool:
        """Whether the reference runs in fp64; else it runs as it is written, and `why_narrow` says why."""
        return not self.why_narrow

    @property
    def why_narrow(self) -> str:
        """Why the reference doesn't run in fp64; empty where it does."""
        with self._lock:
            if self._narrow is None:
                self._narrow = self._compare()
            return self._narrow

    def _compare(self) -> str:
        """Whether the widened reference works and means what the reference means, on the smallest case."""
        import numpy as np
        from safetensors.numpy import save

        parameters, figures = next(iter(self._small_figures_by_parameters()))
        variant = self._variant(parameters)
        request: dict[str, JsonValue] = {
            "kind": "reference",
            "parameters": dict(parameters),
            "plan": figures.plan,
            "specs": {name: spec.model_dump(mode="json") for name, spec in figures.specs.items()},
            "bits": 53,
            "native": False,
        }
        inputs = self.inputs(variant, 0)
        again = self.inputs(variant, 0)
        unlike = sorted(name for name in inputs if inputs[name].tobytes() != again[name].tobytes())
        if unlike:
            raise ConfigurationError(
                f"{self.source.path}: two draws with one seed differ in {unlike}; expected inputs that follow from "
                "torch's, NumPy's and Python's generators, which are all seeded."
            )
        blob = save({name: np.ascontiguousarray(array) for name, array in inputs.items()})
        told, wide = self._arrays(request, blob, "the reference in fp64")
        if told.get("wide") is not True:
            return str(told.get("reason"))
        _, narrow = self._arrays({**request, "native": True}, blob, "the reference")
        ours, theirs = wide["output"].astype(np.float64), narrow["output"].astype(np.float64)
        if ours.shape != theirs.shape:
            return "in fp64 it gives another shape"
        half = any(dtype in _HALF for dtype in _dtypes(figures))
        apart = np.linalg.norm(ours - theirs) / (np.linalg.norm(theirs) or 1.0)
        return "" if apart <= (5e-2 if half else 1e-3) else f"in fp64 it gives something else, {apart:.2g} apart"

    # --- asking ---

    def _small_figures(self) -> dict[str, Figures]:
        return {str(parameters): figures for parameters, figures in self._small_figures_by_parameters()}

    def _small_figures_by_parameters(self) -> list[tuple[Parameters, Figures]]:
        found = self._describe(self._bases(), small=True)
        return [(parameters, figures) for parameters, figures in found if isinstance(figures, Figures)]

    def _bases(self) -> list[Parameters]:
        """Two small cases that the reference runs on: tests as they are, or capped."""
        tests: list[Parameters] = []
        for each in self.source.tests:
            tests += [each] if each not in tests else []
        first = sorted(tests, key=_weight)[:6]
        tried = [*first, *(each for base in first[:3] for each in self._capped(base, (64, 32, 16, 128)))]
        tried += [each for base in first[:3] for each in self._capped(base, (64, 32, 16, 128), every=True)]
        unique: list[Parameters] = []
        for each in tried:
            unique += [each] if each not in unique else []
        found = self._describe(unique, small=True)
        small = [p for p, f in found if isinstance(f, Figures) and f.small and f.finite]
        if not small:
            why = next((f for _, f in found if isinstance(f, str)), "each takes more than can be interpreted")
            raise ConfigurationError(
                f"{self.source.path}: the reference runs on none of the smallest tests, nor on smaller ones: {why}."
            )
        kept = [p for p in small if p in first] or small
        unlike = [p for p in kept[1:] if _options(p) != _options(kept[0])] or kept[1:]
        return [kept[0], *unlike[:1]]

    @cached_property
    def _sizes(self) -> dict[str, "_Size"]:
        """The sizes that may be changed: those that public cases vary; of a model, which has one case, the batch's."""
        cases = [*self.source.tests, *self.source.benchmarks]
        values: dict[str, set[int]] = {}
        for parameters in cases:
            for name, value in parameters.items():
                if type(value) is int and value > _LEAST:
                    values.setdefault(name, set()).add(value)
        if self.source.format is Format.KERNEL_BENCH:
            return {name: _Size(tuple(seen), True) for name, seen in sorted(values.items()) if "batch" in name.lower()}
        return {
            name: _Size(tuple(sorted(seen)), math.gcd(*seen) <= _PROMISED)
            for name, seen in sorted(values.items())
            if len(seen) > 1
        }

    def _capped(self, parameters: Parameters, caps: Sequence[int], every: bool = False) -> list[Parameters]:
        """The parameters with sizes brought down to each cap, or one more if odd.

        Of a folder those that public cases give any value; of a model, or with `every`, all.
        """
        ragged = {name for name, size in self._sizes.items() if size.ragged}
        every = every or self.source.format is Format.KERNEL_BENCH or not ragged
        found: list[Parameters] = []
        for cap in caps:
            sizes = {n: v for n, v in parameters.items() if type(v) is int and v > cap and (every or n in ragged)}
            found += [parameters | {n: _reduce(v, cap) for n, v in sizes.items()}] if sizes else []
        return found

    def _changed(self, parameters: Parameters, name: str, draw: random.Random) -> Parameters:
        """The parameters with one size a little smaller and odd, or, where multiples are promised, another's."""
        size, value = self._sizes[name], int(cast("int", parameters[name]))
        if size.ragged and value > _LEAST:
            return parameters | {name: draw.randrange(value * 3 // 4, value) | 1}
        return parameters | {name: draw.choice(size.values)}

    def _variants(self, cases: Sequence[Parameters]) -> list[Variant]:
        variants: list[Variant] = []
        for parameters in cases:
            variant = self._variant(parameters)
            variants += [variant] if variant not in variants else []
        return variants

    def _variant(self, parameters: Parameters) -> Variant:
        told = str(parameters.get("distribution", "")).lower()
        like = Distribution(told) if told in set(Distribution) else Distribution.NORMAL
        return Variant(problem=self.name, parameters=parameters, distribution=like, precision=self._precision)

    @property
    def _precision(self) -> Precision:
        """Half precision where its inputs or its output have it, or the public tolerance leaves room for it."""
        with self._lock:
            if not self._checked:
                self._checked = self._small_figures()
        figures = list(self._checked.values())
        half = any(dtype in _HALF for dtype in _dtypes(figures[0]))
        rules = [rule for each in figures for rule in each.tolerances]
        loose = all((rule.rtol or rule.atol) >= _BY_HALVES for rule in rules)
        return Precision.FP16 if half or loose else Precision.FP32

    def _describe(self, cases: Sequence[Parameters], small: bool = False) -> list[tuple[Parameters, Figures | str]]:
        """Describe cases; with `small`, those that are small are run, too."""
        keys = [f"{small} {sorted(parameters.items())}" for parameters in cases]
        with self._lock:
            new = {key: each for key, each in zip(keys, cases, strict=True) if key not in self._known}
            if new:
                most: JsonValue = SMALL if small else None
                asked: list[JsonValue] = [{"parameters": dict(each), "most": most} for each in new.values()]
                told, _ = self._ask({"kind": "describe", "cases": asked}, b"")
                answers = told.get("cases")
                if not isinstance(answers, list) or len(answers) != len(new):
                    raise ConfigurationError(f"{self.source.path}: it can't be run: {told.get('error', 'no answer')}.")
                self._known |= {key: _read(answer) for key, answer in zip(new, answers, strict=True)}
            return [(each, self._known[key]) for key, each in zip(keys, cases, strict=True)]

    def _arrays(self, request: dict[str, JsonValue], blob: bytes, what: str) -> "tuple[dict[str, JsonValue], Arrays]":
        from safetensors.numpy import load

        from ...safety.sandbox.tensors import parse_safetensors

        told, outputs = self._ask(request, blob)
        if "error" in told:
            raise ConfigurationError(f"{self.source.path}: {what} failed: {told['error']}.")
        try:
            parse_safetensors(outputs)
            return told, load(outputs)
        except (ValueError, KeyError) as error:
            raise ConfigurationError(f"{self.source.path}: {what} gave no tensors: {error}.") from None

    def _ask(self, request: dict[str, JsonValue], blob: bytes) -> tuple[dict[str, JsonValue], bytes]:
        code: dict[str, JsonValue] = {
            "format": self.source.format.value,
            "modules": dict(self.source.modules),
            "reference": self.source.reference,
        }
        return self._process.ask(request | code, blob)


def _read(answer: JsonValue) -> Figures | str:
    if isinstance(answer, dict) and "error" in answer:
        return str(answer["error"])[:800]
    try:
        return Figures.model_validate(answer)
    except ValidationError as error:
        return f"an answer that can't be read: {error.error_count()} mistakes"


def _weight(parameters: Parameters) -> float:
    """Roughly how large a case is, before anything is known of it."""
    weight = 1.0
    for value in parameters.values():
        if type(value) is int and value > 0:
            weight *= value
    return weight


def _options(parameters: Parameters) -> list[tuple[str, object]]:
    """What of the parameters isn't a size."""
    return sorted((name, value) for name, value in parameters.items() if type(value) is not int)


def _reduce(size: int, cap: int) -> int:
    """Halve down to a cap, which keeps what divides a size dividing it; to one more than the cap if odd."""
    if size % 2:
        return cap + 1 if size > cap + 1 else size
    while size > cap and size % 2 == 0:
        size //= 2
    return min(size, cap)


def _count(spec: TensorSpec) -> int:
    count = 1
    for size in spec.shape:
        count *= size
    return count


def _dtypes(figures: Figures) -> set[str]:
    return {figures.output.dtype, *(spec.dtype for spec in figures.specs.values())}


def _significant_bits(rounding: Rounding) -> int:
    """How many bits of a significand a rounding keeps, found by trial."""
    import numpy as np

    for bits in range(2, 53):
        value = np.asarray([1.0 + 2.0**-bits])
        if rounding(value)[0] != value[0]:
            return bits
    return 53
