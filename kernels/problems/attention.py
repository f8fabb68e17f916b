"""Attention, forward, fp16: `custom_kernel((q, k, v, causal))` returns softmax(q k^T / sqrt(d)) v, fp16.

All three are [batch, heads, n, d]; where `causal`, position i sees those up to i alone.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ..problem import Distribution, Precision, Rounding, Sample, TensorSpec, Tolerance, TritonRule, Variant, exact
from ..schedule import Schedule
from .attention_render import SPACE, render_attention
from .shapes import seed_text, smaller_variants, stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

SIZES = (512, 777, 1024, 2048, 3001, 4096, 8192)
"""Sequence lengths of drawn variants."""

CONTRACT = (
    "Write custom_kernel(data) with data = (q, k, v, causal): softmax(q @ k^T / sqrt(d)) @ v for fp16 tensors "
    "[batch, heads, n, d] with d 32, 64 or 128; where the bool causal is true, position i sees positions up to i "
    "alone. Sums are in fp32. Return one fp16 tensor [batch, heads, n, d]. All work is in @triton.jit kernels, for an "
    "H100."
)


class Attention:
    """The problem; see the module."""

    name = "attention"
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
        return render_attention(self.space.validate_schedule(schedule))

    def benchmark(self) -> Sequence[Variant]:
        """16,384 positions altogether, in short sequences and long ones, causal and not."""
        rows = (
            (1024, 16, 16, 64, True),
            (2048, 8, 16, 128, False),
            (4096, 4, 16, 128, True),
            (8192, 2, 16, 64, False),
            (8192, 2, 16, 128, True),
        )
        return [_variant(n, batch, heads, d, causal) for n, batch, heads, d, causal in rows]

    def tests(self) -> Sequence[Variant]:
        """Whole tiles and ragged ones, causal and not, under every distribution."""
        sizes = ((128, 1, 2, 64), (257, 2, 1, 32), (77, 1, 3, 128))
        return [
            _variant(*size, causal=causal, distribution=like)
            for size in sizes
            for causal in (False, True)
            for like in Distribution
        ]

    def correctness(self, seed: int = 0) -> Sequence[Variant]:
        """Sequences within a tile and of several, causal and not."""
        draw = random.Random(seed)
        causal = draw.random() < 0.5
        return [
            _variant(draw.choice((3, 9, 17)), 2, 2, 32, not causal),
            _variant(64, 1, 2, 64, causal, Distribution.CAUCHY),
            _variant(draw.choice((129, 131, 193)), 1, 2, 64, True),
            _variant(draw.choice((65, 67, 77)), 1, 1, 128, causal, Distribution.BINARY),
            _variant(draw.choice((129, 143, 193)), 1, 1, 64, False, Distribution.NEEDLE),
            _variant(draw.choice((69, 95, 133)), 1, 1, 32, True, Distribution.NEEDLE),
        ]

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream."""
        return stream(self.name, seed, count, start, _draw_one)

    def slice_of(self, variant: Variant) -> str:
        """`causal` or `full`."""
        return "causal" if variant["causal"] else "full"

    def smaller(self, variant: Variant) -> Sequence[Variant]:
        """Shorter sequences."""
        return smaller_variants(variant, "n", (64, 128, 192, 256, 384, 512, 1024, 2048))

    def tolerance(self, precision: Precision) -> Tolerance:
        """What fp16 operands with sums in fp32 reach; the output's own rounding and that of the weights."""
        if precision is Precision.FP32:
            return Tolerance(rtol=2e-3, atol=2e-3, relative_l2=6e-4, slope=1e-4)
        return Tolerance(rtol=1e-2, atol=1e-2, relative_l2=2e-3, budget=4, slope=5e-4)

    def flops(self, variant: Variant) -> float:
        """Two products over the pairs of positions that see each other."""
        n = variant["n"]
        pairs = n * (n + 1) / 2 if variant["causal"] else n * n
        return 4.0 * variant["batch"] * variant["heads"] * variant["d"] * pairs

    def least_bytes(self, variant: Variant) -> float:
        """Queries, keys, values and output."""
        return 8.0 * variant["batch"] * variant["heads"] * variant["n"] * variant["d"]

    def specs(self, variant: Variant) -> dict[str, TensorSpec]:
        """`q`, `k` and `v`."""
        shape = (variant["batch"], variant["heads"], variant["n"], variant["d"])
        return {name: TensorSpec(shape=shape, dtype="float16") for name in ("q", "k", "v")}

    def output(self, variant: Variant) -> TensorSpec:
        """Like `q`."""
        return self.specs(variant)["q"]

    def arguments(self, variant: Variant) -> JsonValue:
        """`(q, k, v, causal)`."""
        tensors: list[JsonValue] = [{"tensor": name} for name in ("q", "k", "v")]
        return {"tuple": [*tensors, variant["causal"]]}

    def weights(self, variant: Variant) -> frozenset[str]:
        """None."""
        return frozenset()

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Draw every input from one generator."""
        from .attention_reference import draw_inputs

        return draw_inputs(variant, self.specs(variant), seed)

    def reference(self, variant: Variant, inputs: "Arrays", rounding: Rounding = exact) -> "NDArray[np.float64]":
        """The exact output, in fp64; with a rounding, what an honest implementation in that precision gives."""
        from .attention_reference import attention

        return attention(inputs, causal=variant["causal"], rounding=rounding)

    def sample(self, variant: Variant, seed: int, width: int) -> Sample | None:
        """A stretch of the queries of one head."""
        from .attention_sample import sample_queries

        return sample_queries(self, variant, seed, width)


def _draw_one(draw: random.Random) -> Variant:
    n, d = draw.choice(SIZES), draw.choice((64, 128))
    like = draw.choice((Distribution.NORMAL, Distribution.CAUCHY))
    return _variant(n, max(1, 8192 // n), 16, d, draw.random() < 0.5, like)


def _variant(
    n: int, batch: int, heads: int, d: int, causal: bool, distribution: Distribution = Distribution.NORMAL
) -> Variant:
    parameters: dict[str, bool | int | float | str] = {
        "n": n,
        "batch": batch,
        "heads": heads,
        "d": d,
        "causal": causal,
    }
    return Variant(problem="attention", parameters=parameters, distribution=distribution)
