"""Matrix product with an epilogue, fp16: `custom_kernel((a, b, bias, activation))` returns act(a @ b + bias), fp16.

`a` is [m, k], `b` [k, n], `bias` [n]; `activation` is "none", "relu" or "silu".
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ..problem import Distribution, Precision, Rounding, Sample, TensorSpec, Tolerance, TritonRule, Variant, exact
from ..schedule import Schedule
from .matmul_render import SPACE, render_matmul
from .shapes import ROWS, seed_text, smaller_variants, stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

ACTIVATIONS = ("none", "relu", "silu")
SIZES = (512, 777, 1024, 2048, 3000, 4096, 8192)
"""Of drawn variants, in each direction; products of more than 4096 cubed are left out."""

CONTRACT = (
    "Write custom_kernel(data) with data = (a, b, bias, activation): act(a @ b + bias) for fp16 a [m, k], b [k, n] and "
    "bias [n], where activation is the string 'none', 'relu' or 'silu'. Sums, bias and activation are in fp32. Return "
    "one fp16 tensor [m, n]. All work is in @triton.jit kernels, for an H100."
)


class Matmul:
    """The problem; see the module."""

    name = "matmul"
    space = SPACE
    triton = TritonRule()
    about = CONTRACT

    def seed_source(self) -> str:
        """The plain kernel that speed-ups are counted from."""
        return seed_text(self.name)

    def render(self, schedule: Schedule) -> str:
        """Write the Triton module of a schedule.

        Raises:
            ConfigurationError: the schedule isn't one of the space.
        """
        return render_matmul(self.space.validate_schedule(schedule))

    def benchmark(self) -> Sequence[Variant]:
        """Square ones, and those of a feed-forward layer with many rows and with few."""
        rows = (
            (2048, 2048, 2048, "none"),
            (4096, 4096, 4096, "relu"),
            (8192, 4096, 1024, "silu"),
            (8192, 1024, 4096, "none"),
            (128, 8192, 4096, "silu"),
        )
        return [_variant(*row) for row in rows]

    def tests(self) -> Sequence[Variant]:
        """Whole tiles and ragged ones, under every distribution."""
        sizes = ((128, 128, 128), (256, 512, 384), (257, 130, 515), (33, 1000, 77))
        return [
            _variant(m, n, k, ACTIVATIONS[(row + column) % 3], like)
            for row, (m, n, k) in enumerate(sizes)
            for column, like in enumerate(Distribution)
        ]

    def correctness(self, seed: int = 0) -> Sequence[Variant]:
        """Sides within a tile and of several, short sums and long; zeros and ones without a curved activation."""
        draw = random.Random(seed)
        ragged = (65, 129, 131, 193)
        return [
            _variant(draw.choice((1, 7, 17)), draw.choice((33, 47)), draw.choice((5, 63)), "relu"),
            _variant(64, 128, 64, "none", Distribution.CAUCHY),
            _variant(draw.choice(ragged), draw.choice(ragged), draw.choice((97, 161)), "silu"),
            _variant(draw.choice(ragged), 64, draw.choice((127, 259)), "none", Distribution.BINARY),
            _variant(64, draw.choice(ragged), draw.choice((259, 515)), "relu", Distribution.NEEDLE),
        ]

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream."""
        return stream(self.name, seed, count, start, _draw_one)

    def slice_of(self, variant: Variant) -> str:
        """`flat` with at most 1,024 rows, else `square`."""
        return "flat" if variant["m"] <= 1024 else "square"

    def smaller(self, variant: Variant) -> Sequence[Variant]:
        """Fewer rows of a."""
        return smaller_variants(variant, "m", ROWS[4:])

    def tolerance(self, precision: Precision) -> Tolerance:
        """What fp16 operands with sums in fp32 reach; the output's own rounding is most of it."""
        if precision is Precision.FP32:
            return Tolerance(rtol=2e-3, atol=2e-3, relative_l2=6e-4, slope=1e-3, exact_on_binary=True)
        return Tolerance(rtol=1e-2, atol=1e-2, relative_l2=1e-3, slope=1e-3, exact_on_binary=True)

    def flops(self, variant: Variant) -> float:
        """The product."""
        return 2.0 * variant["m"] * variant["n"] * variant["k"]

    def least_bytes(self, variant: Variant) -> float:
        """Operands, bias and output."""
        m, n, k = variant["m"], variant["n"], variant["k"]
        return 2.0 * (m * k + k * n + n + m * n)

    def specs(self, variant: Variant) -> dict[str, TensorSpec]:
        """`a`, `b` and `bias`."""
        m, n, k = variant["m"], variant["n"], variant["k"]
        shapes = {"a": (m, k), "b": (k, n), "bias": (n,)}
        return {name: TensorSpec(shape=shape, dtype="float16") for name, shape in shapes.items()}

    def output(self, variant: Variant) -> TensorSpec:
        """fp16, [m, n]."""
        return TensorSpec(shape=(variant["m"], variant["n"]), dtype="float16")

    def arguments(self, variant: Variant) -> JsonValue:
        """`(a, b, bias, activation)`."""
        tensors: list[JsonValue] = [{"tensor": name} for name in ("a", "b", "bias")]
        return {"tuple": [*tensors, variant["activation"]]}

    def weights(self, variant: Variant) -> frozenset[str]:
        """`b` and `bias`."""
        return frozenset({"b", "bias"})

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Draw every input from one generator."""
        from .matmul_reference import draw_inputs

        return draw_inputs(variant, self.specs(variant), seed)

    def reference(self, variant: Variant, inputs: "Arrays", rounding: Rounding = exact) -> "NDArray[np.float64]":
        """The exact output, in fp64; with a rounding, what an honest implementation in that precision gives."""
        from .matmul_reference import product

        return product(inputs, variant["activation"], rounding)

    def sample(self, variant: Variant, seed: int, width: int) -> Sample | None:
        """A stretch of rows, and one of columns."""
        from .stretches import sample_stretches

        return sample_stretches(self, variant, ("m", "n"), seed, width)


def _draw_one(draw: random.Random) -> Variant:
    while True:
        m, n, k = (draw.choice(SIZES) for _ in range(3))
        if m * n * k <= 4096**3:
            break
    return _variant(m, n, k, draw.choice(ACTIVATIONS), draw.choice((Distribution.NORMAL, Distribution.CAUCHY)))


def _variant(m: int, n: int, k: int, activation: str, distribution: Distribution = Distribution.NORMAL) -> Variant:
    parameters: dict[str, bool | int | float | str] = {"m": m, "n": n, "k": k, "activation": activation}
    return Variant(problem="matmul", parameters=parameters, distribution=distribution)
