"""A problem that others wrote, as a `KernelProblem`: its code runs in the sandbox, and gives bytes.

The reference runs in fp64: what it is given is widened, and every narrower type that it names means fp64, unless it
refuses that or means something else by it; then it runs as written (`ForeignProblem.why_narrow`). The schedule space is
empty, and the seed is the reference itself, as a submission in plain torch.
"""

import math
import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ...core import ConfigurationError, derive_seed
from ..problem import Distribution, Precision, Rounding, TensorSpec, Tolerance, TritonRule, Variant, exact
from ..schedule import Schedule, ScheduleSpace
from .process import ForeignProcess, shared_process
from .questions import FULL, Figures, Questions, Rule
from .sizes import Size, cap, change, find_sizes, options, weight
from .source import ForeignSource, Format, Parameters, complete_submission

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

_CAPS = (16, 32, 64, 128, 256, 512, 1024, 4096)
_TRIED = (64, 32, 16, 128)
_CASES = 4
_HALF = {"float16": 5e-3, "bfloat16": 2e-2}
"""Types of half precision, and the relative error that a contract must leave them."""
_BY_HALVES = 1e-3
"""A public tolerance from which half precision is within the contract."""


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
        self._questions = Questions(source, process or shared_process())

    def check(self) -> None:
        """See that its code runs: a small case on values, and every benchmark shape without.

        Raises:
            ConfigurationError: it doesn't, or what it draws doesn't follow from the seed.
        """
        for variant in self.benchmark():
            self.figures(variant)
        _ = self.why_narrow

    # --- submissions ---

    def seed_source(self) -> str:
        """The reference as a submission, in plain torch."""
        return self.complete(self.source.seed)

    def render(self, schedule: Schedule) -> str:
        """The seed, which is all that an empty space holds.

        Raises:
            ConfigurationError: the schedule names a field.
        """
        self.space.validate_schedule(schedule)
        return self.seed_source()

    def complete(self, submission: str) -> str:
        """A submission as the verifier takes it: with what makes `custom_kernel` of a `ModelNew` behind it."""
        return complete_submission(submission, self.source.epilogue)

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
        bases = [parameters for parameters, _ in self._bases]
        draw = random.Random(derive_seed(seed, "odd", self.name))
        names = [name for name, size in self._sizes.items() if size.ragged]
        wanted = [
            change(base, name, self._sizes[name], draw)
            for name in draw.sample(names, len(names))
            for base in reversed(bases)
        ]
        cases = list(bases)
        for parameters, found in zip(wanted, self._questions.describe(wanted, small=True), strict=True):
            usable = isinstance(found, Figures) and found.small and found.finite
            if usable and len(cases) < _CASES and parameters not in cases:
                cases.append(parameters)
        return self._variants(cases)

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream: benchmark shapes with one size changed.

        A change that the reference refuses is left out.
        """
        bases: list[Parameters] = []
        wanted: list[Parameters] = []
        for index in range(start, start + count):
            draw = random.Random(derive_seed(seed, "variant", self.name, index))
            base = draw.choice(self.source.benchmarks)
            names = [name for name in self._sizes if name in base]
            name = draw.choice(names) if names else None
            bases.append(base)
            wanted.append(base if name is None else change(base, name, self._sizes[name], draw))
        found = self._questions.describe(wanted)
        return [
            self._variant(other if isinstance(figures, Figures) else base)
            for base, other, figures in zip(bases, wanted, found, strict=True)
        ]

    def smaller(self, variant: Variant) -> Sequence[Variant]:
        """Variants with the sizes capped that public cases vary, from a cheap one upwards to the variant itself."""
        every = self.source.format is Format.KERNEL_BENCH
        tried = cap(variant.parameters, self._sizes, _CAPS, every=every)
        whole = self.figures(variant).bytes
        found = [
            (figures.bytes, index)
            for index, figures in enumerate(self._questions.describe(tried))
            if isinstance(figures, Figures) and figures.bytes < whole
        ]
        return [*(variant.model_copy(update={"parameters": tried[index]}) for _, index in sorted(found)), variant]

    def slice_of(self, variant: Variant) -> str:
        """`small` or `large`, by whether inputs and output take more than 512 MiB."""
        return "small" if self.figures(variant).bytes < 1 << 29 else "large"

    # --- one variant ---

    def figures(self, variant: Variant) -> Figures:
        """What is known of a variant without its values.

        Raises:
            ConfigurationError: the problem's code refuses it; the message names the file.
        """
        found = self._questions.describe([variant.parameters])[0]
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
        """A model's state; of a folder what lies under a name that ends with weight, weights or bias."""
        names = self.figures(variant).specs
        if self.source.format is Format.KERNEL_BENCH:
            return frozenset(name for name in names if name.startswith("state."))
        return frozenset(n for n in names if n.rpartition(".")[2].lower().endswith(("weight", "weights", "bias")))

    def buffers(self, variant: Variant) -> frozenset[str]:
        """Inputs that are room for the output, which a submission may write to and return."""
        return _rooms(self.figures(variant))

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
        half = precision is Precision.FP16
        usual = Rule(rtol=1e-2, atol=1e-2) if half else Rule(rtol=1e-4, atol=1e-4)
        rule = max(self._rules, key=lambda rule: (rule.rtol, rule.atol), default=usual)
        narrowest = max(_HALF.get(dtype, 0.0) for dtype in self._bases[0][1].dtypes)
        return Tolerance(
            rtol=rule.rtol,
            atol=rule.atol,
            relative_l2=max(narrowest, 5e-3) if half else 5e-5,
            slope=2e-3 if narrowest < _HALF["bfloat16"] else 4e-3,
            budget=10.0 if half else None,
        )

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Let the problem draw its inputs, from generators that are all seeded with `seed`.

        A type that NumPy lacks (bfloat16, eight-bit floats) comes as float32 that holds the same values.

        Raises:
            ConfigurationError: the problem's code fails.
        """
        return self._questions.inputs(variant.parameters, seed)

    def reference(self, variant: Variant, inputs: "Arrays", rounding: Rounding = exact) -> "NDArray[np.float64]":
        """Run the reference on these inputs; with a rounding, with products rounded to as many significant bits.

        Raises:
            ConfigurationError: the problem's code fails.
        """
        import numpy as np

        figures = self.figures(variant)
        bits = _significant_bits(rounding)
        if bits < FULL and "bfloat16" in figures.dtypes:
            bits = min(bits, 8)
        native = bool(self.why_narrow)
        arrays, _ = self._questions.reference(variant.parameters, figures, inputs, bits=bits, native=native)
        return arrays["output"].astype(np.float64)

    @cached_property
    def why_narrow(self) -> str:
        """Why the reference runs as it is written and not in fp64; empty where fp64 works and means the same.

        Raises:
            ConfigurationError: the problem's code fails, or draws what no seed decides.
        """
        import numpy as np

        parameters, figures = self._bases[0]
        inputs, again = (self._questions.inputs(parameters, 0) for _ in range(2))
        left_over = _rooms(figures) - figures.read  # what `torch.empty` found in memory decides nothing
        unlike = sorted(name for name in inputs.keys() - left_over if inputs[name].tobytes() != again[name].tobytes())
        if unlike:
            raise ConfigurationError(
                f"{self.source.path}: two draws with one seed differ in {unlike}; expected inputs that follow from "
                "torch's, NumPy's and Python's generators, which are all seeded."
            )
        arrays, reason = self._questions.reference(parameters, figures, inputs)
        if reason:
            return reason
        wide = arrays["output"].astype(np.float64)
        narrow = self._questions.reference(parameters, figures, inputs, native=True)[0]["output"].astype(np.float64)
        if wide.shape != narrow.shape:
            return "in fp64 it gives another shape"
        apart = float(np.linalg.norm(wide - narrow) / (np.linalg.norm(narrow) or 1.0))
        same = apart <= (5e-2 if figures.dtypes & _HALF.keys() else 1e-3)
        return "" if same else f"in fp64 it gives something else, {apart:.2g} apart"

    # --- cases ---

    @cached_property
    def _sizes(self) -> dict[str, Size]:
        return find_sizes(self.source)

    @cached_property
    def _bases(self) -> list[tuple[Parameters, Figures]]:
        """One or two small cases that the reference runs on: tests as they are, or with sizes capped."""
        first: list[Parameters] = []
        for each in sorted(self.source.tests, key=weight):
            first += [each] if each not in first else []
        rounds = [first[:6]]
        rounds += [[e for base in first[:3] for e in cap(base, self._sizes, _TRIED, every=w)] for w in (False, True)]
        refused: list[str] = []
        for tried in rounds:
            described = self._questions.describe(tried, small=True)
            refused += [found for found in described if isinstance(found, str)]
            small = [
                (parameters, found)
                for parameters, found in zip(tried, described, strict=True)
                if isinstance(found, Figures) and found.small and found.finite
            ]
            if small:
                others = [each for each in small[1:] if options(each[0]) != options(small[0][0])] or small[1:]
                return [small[0], *others[:1]]
        why = next(iter(refused), "each takes more than is interpreted, or gives values that aren't finite")
        raise ConfigurationError(
            f"{self.source.path}: the reference runs on none of the smallest tests, nor on smaller ones: {why}."
        )

    @cached_property
    def _rules(self) -> list[Rule]:
        """What the problem's own check allowed of the small cases."""
        return [rule for _, figures in self._bases for rule in figures.tolerances]

    @cached_property
    def _precision(self) -> Precision:
        """Half precision where its inputs or its output have it, or the public tolerance leaves room for it."""
        half = bool(self._bases[0][1].dtypes & _HALF.keys())
        loose = all((rule.rtol or rule.atol) >= _BY_HALVES for rule in self._rules)
        return Precision.FP16 if half or loose else Precision.FP32

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


def _rooms(figures: Figures) -> frozenset[str]:
    """Inputs that the output may go to: what the reference writes, or doesn't read and is as large."""
    result = figures.output

    def is_room(name: str, spec: TensorSpec) -> bool:
        same = spec.dtype == result.dtype and math.prod(spec.shape) == math.prod(result.shape)
        return name in figures.written or (name not in figures.read and same)

    return frozenset(name for name, spec in figures.specs.items() if is_room(name, spec))


def _significant_bits(rounding: Rounding) -> int:
    """How many bits of a significand a rounding keeps, found by trial."""
    import numpy as np

    for bits in range(2, FULL):
        value = np.asarray([1.0 + 2.0**-bits])
        if rounding(value)[0] != value[0]:
            return bits
    return FULL
