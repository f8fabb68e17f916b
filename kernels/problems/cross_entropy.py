"""Cross-entropy of each row, fp32: `custom_kernel((logits, targets))` returns the losses, [rows].

`logits` are fp32 [rows, classes], `targets` int64 [rows].
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ..problem import Distribution, Precision, Rounding, Sample, TensorSpec, Tolerance, TritonRule, Variant, exact
from ..schedule import Schedule
from .cross_entropy_render import SPACE, render_cross_entropy
from .shapes import ROWS, seed_text, smaller_variants, stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

CLASSES = (1000, 4096, 21841, 32000, 50257, 65536, 128256)
"""Classes of drawn variants: those of image and language models."""

CONTRACT = (
    "Write custom_kernel(data) with data = (logits, targets): for each row of the fp32 logits [rows, classes], "
    "log(sum(exp(logits))) minus the logit of the row's target (int64 [rows], all within the classes), without "
    "overflow. Return one fp32 tensor [rows]. All work is in @triton.jit kernels, for an H100."
)


class CrossEntropy:
    """The problem; see the module."""

    name = "cross_entropy"
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
        return render_cross_entropy(self.space.validate_schedule(schedule))

    def benchmark(self) -> Sequence[Variant]:
        """The vocabularies of language models, and ImageNet's classes."""
        sizes = ((65536, 1000), (8192, 32000), (8192, 50257), (4096, 128256))
        return [_variant(rows, classes) for rows, classes in sizes]

    def tests(self) -> Sequence[Variant]:
        """Powers of two and ragged rows, under every distribution."""
        sizes = ((128, 512), (333, 1000), (64, 4097), (7, 50257))
        return [_variant(rows, classes, like) for rows, classes in sizes for like in Distribution]

    def correctness(self, seed: int = 0) -> Sequence[Variant]:
        """Rows shorter than a tile, of one tile, and of several."""
        draw = random.Random(seed)
        return [
            _variant(draw.choice((5, 7)), draw.choice((2, 3, 31, 33)), Distribution.NORMAL),
            _variant(draw.choice((9, 17)), draw.choice((127, 129, 1000, 1023)), Distribution.NEEDLE),
            _variant(16, 1024, Distribution.BINARY),
            _variant(draw.choice((3, 5)), draw.choice((2047, 4099, 5001)), Distribution.CAUCHY),
            _variant(draw.choice((3, 7)), draw.choice((8193, 17001, 20011)), Distribution.NEEDLE),
        ]

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream."""
        return stream(self.name, seed, count, start, _draw_one)

    def slice_of(self, variant: Variant) -> str:
        """`few` or `many`, by whether there are more than 32,768 classes."""
        return "few" if variant["classes"] <= 32768 else "many"

    def smaller(self, variant: Variant) -> Sequence[Variant]:
        """Fewer rows."""
        return smaller_variants(variant, "rows", ROWS)

    def tolerance(self, precision: Precision) -> Tolerance:
        """What fp32 reaches, with the hardware's fast exponential; or half precision."""
        if precision is Precision.FP32:
            return Tolerance(rtol=1e-4, atol=1e-5, relative_l2=2e-5, slope=1e-5)
        return Tolerance(rtol=1e-2, atol=1e-2, relative_l2=5e-3, budget=8, slope=1e-3)

    def flops(self, variant: Variant) -> float:
        """No matrix products."""
        return 0.0

    def least_bytes(self, variant: Variant) -> float:
        """Logits, targets and losses."""
        return variant["rows"] * (4.0 * variant["classes"] + 12)

    def specs(self, variant: Variant) -> dict[str, TensorSpec]:
        """`logits` and `targets`."""
        return {
            "logits": TensorSpec(shape=(variant["rows"], variant["classes"]), dtype="float32"),
            "targets": TensorSpec(shape=(variant["rows"],), dtype="int64"),
        }

    def output(self, variant: Variant) -> TensorSpec:
        """The losses."""
        return TensorSpec(shape=(variant["rows"],), dtype="float32")

    def arguments(self, variant: Variant) -> JsonValue:
        """`(logits, targets)`."""
        return {"tuple": [{"tensor": "logits"}, {"tensor": "targets"}]}

    def weights(self, variant: Variant) -> frozenset[str]:
        """None."""
        return frozenset()

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Draw every input from one generator."""
        from .cross_entropy_reference import draw_inputs

        return draw_inputs(variant, self.specs(variant), seed)

    def reference(self, variant: Variant, inputs: "Arrays", rounding: Rounding = exact) -> "NDArray[np.float64]":
        """The exact output, in fp64; with a rounding, what an honest implementation in that precision gives."""
        from .cross_entropy_reference import cross_entropy

        return cross_entropy(inputs, rounding)

    def sample(self, variant: Variant, seed: int, width: int) -> Sample | None:
        """A stretch of rows."""
        from .stretches import sample_stretches

        return sample_stretches(self, variant, ("rows",), seed, width)


def _draw_one(draw: random.Random) -> Variant:
    classes = draw.choice(CLASSES)
    rows = draw.choice((1 << 22, 1 << 24, 1 << 26)) // classes
    return _variant(rows, classes, draw.choice((Distribution.NORMAL, Distribution.CAUCHY)))


def _variant(rows: int, classes: int, distribution: Distribution = Distribution.NORMAL) -> Variant:
    parameters: dict[str, bool | int | float | str] = {"rows": rows, "classes": classes}
    return Variant(problem="cross_entropy", parameters=parameters, distribution=distribution, precision=Precision.FP32)
