"""LayerNorm over the last axis, fp32: `custom_kernel((x, weight, bias))` returns a tensor like x [rows, columns]."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ..problem import Distribution, Precision, Rounding, Sample, TensorSpec, Tolerance, TritonRule, Variant, exact
from ..schedule import Schedule
from .layer_norm_render import SPACE, render_layer_norm
from .shapes import ROWS, seed_text, smaller_variants, stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

COLUMNS = (256, 768, 1000, 1536, 2047, 4096, 8192, 12288)
"""Row lengths of drawn variants."""

CONTRACT = (
    "Write custom_kernel(data) with data = (x, weight, bias): LayerNorm over the last axis of an fp32 tensor "
    "[rows, columns], with epsilon 1e-5 added to the biased variance, times weight [columns], plus bias [columns]. "
    "Return one fp32 tensor [rows, columns]. All work is in @triton.jit kernels, for an H100."
)


class LayerNorm:
    """The problem; see the module."""

    name = "layer_norm"
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
        return render_layer_norm(self.space.validate_schedule(schedule))

    def benchmark(self) -> Sequence[Variant]:
        """The widths of small and large language models."""
        sizes = ((65536, 768), (32768, 1024), (16384, 4096), (8192, 8192), (4096, 12288))
        return [_variant(rows, columns) for rows, columns in sizes]

    def tests(self) -> Sequence[Variant]:
        """Powers of two and ragged rows, under every distribution."""
        sizes = ((128, 512), (333, 1000), (64, 4097), (7, 12288))
        return [_variant(rows, columns, like) for rows, columns in sizes for like in Distribution]

    def correctness(self, seed: int = 0) -> Sequence[Variant]:
        """Rows shorter than a tile, of one tile, and of several."""
        draw = random.Random(seed)
        return [
            _variant(draw.choice((5, 7)), draw.choice((3, 15, 31, 33)), Distribution.NORMAL),
            _variant(draw.choice((9, 17)), draw.choice((127, 129, 1000, 1023)), Distribution.NEEDLE),
            _variant(16, 1024, Distribution.BINARY),
            _variant(draw.choice((3, 5)), draw.choice((2047, 4099, 5001)), Distribution.CAUCHY),
            _variant(draw.choice((1, 3)), draw.choice((8193, 9999, 12345)), Distribution.NEEDLE),
        ]

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream."""
        return stream(self.name, seed, count, start, _draw_one)

    def slice_of(self, variant: Variant) -> str:
        """`short` or `long`, by whether a row has more than 4,096 values."""
        return "short" if variant["columns"] <= 4096 else "long"

    def smaller(self, variant: Variant) -> Sequence[Variant]:
        """Fewer rows."""
        return smaller_variants(variant, "rows", ROWS)

    def tolerance(self, precision: Precision) -> Tolerance:
        """What fp32 reaches, with a mean that may be far from 0; or half precision."""
        if precision is Precision.FP32:
            return Tolerance(rtol=1e-3, atol=1e-3, relative_l2=5e-5, slope=2e-5)
        return Tolerance(rtol=2e-2, atol=2e-2, relative_l2=5e-3, budget=8, slope=1e-3)

    def flops(self, variant: Variant) -> float:
        """No matrix products."""
        return 0.0

    def least_bytes(self, variant: Variant) -> float:
        """Input, output and parameters."""
        return 8.0 * (variant["rows"] + 1) * variant["columns"]

    def specs(self, variant: Variant) -> dict[str, TensorSpec]:
        """`x`, `weight` and `bias`."""
        columns = variant["columns"]
        shapes = {"x": (variant["rows"], columns), "weight": (columns,), "bias": (columns,)}
        return {name: TensorSpec(shape=shape, dtype="float32") for name, shape in shapes.items()}

    def output(self, variant: Variant) -> TensorSpec:
        """Like `x`."""
        return self.specs(variant)["x"]

    def arguments(self, variant: Variant) -> JsonValue:
        """`(x, weight, bias)`."""
        return {"tuple": [{"tensor": "x"}, {"tensor": "weight"}, {"tensor": "bias"}]}

    def weights(self, variant: Variant) -> frozenset[str]:
        """`weight` and `bias`."""
        return frozenset({"weight", "bias"})

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Draw every input from one generator."""
        from .layer_norm_reference import draw_inputs

        return draw_inputs(variant, self.specs(variant), seed)

    def reference(self, variant: Variant, inputs: "Arrays", rounding: Rounding = exact) -> "NDArray[np.float64]":
        """The exact output, in fp64; with a rounding, what an honest implementation in that precision gives."""
        from .layer_norm_reference import layer_norm

        return layer_norm(inputs, rounding)

    def sample(self, variant: Variant, seed: int, width: int) -> Sample | None:
        """A stretch of rows."""
        from .stretches import sample_stretches

        return sample_stretches(self, variant, ("rows",), seed, width)


def _draw_one(draw: random.Random) -> Variant:
    columns = draw.choice(COLUMNS)
    rows = draw.choice((1 << 22, 1 << 24, 1 << 26)) // columns
    return _variant(rows, columns, draw.choice((Distribution.NORMAL, Distribution.CAUCHY)))


def _variant(rows: int, columns: int, distribution: Distribution = Distribution.NORMAL) -> Variant:
    parameters: dict[str, bool | int | float | str] = {"rows": rows, "columns": columns}
    return Variant(problem="layer_norm", parameters=parameters, distribution=distribution, precision=Precision.FP32)
