"""TriMul: AlphaFold 3's outgoing triangle multiplicative update, forward, under the contract of GPU MODE's task.

`custom_kernel(data)` gets `(input, mask, weights, config)` and returns one fp32 tensor of the input's shape:
LayerNorm, five projections without bias, mask and sigmoid gates, `einsum('...ikd,...jkd->...ijd')`, LayerNorm,
gate, projection. The mask is fp32 ones when there is none, int64 zeros and ones otherwise.
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ..problem import Distribution, Precision, Rounding, Sample, TensorSpec, Tolerance, TritonRule, Variant, exact
from ..schedule import Schedule
from .shapes import seed_text, smaller_variants, stream
from .trimul_render import render_trimul
from .trimul_space import SPACE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..problem import Arrays

SIZES = (256, 320, 384, 449, 512, 600, 768, 777, 1024)
"""Sequence lengths of drawn variants; the odd ones leave ragged tiles."""
DIMS = (128, 256, 384, 768)

CONTRACT = (
    "Write custom_kernel(data) with data = (input, mask, weights, config): AlphaFold 3's outgoing triangle "
    "multiplicative update, forward. input is fp32 [batch, n, n, dim]; mask is [batch, n, n], fp32 ones or int64 "
    "zeros and ones; weights has norm.weight, norm.bias, left_proj.weight, right_proj.weight, left_gate.weight, "
    "right_gate.weight, out_gate.weight, to_out_norm.weight, to_out_norm.bias, to_out.weight, each [out, in]; config "
    "has hidden_dim and dim. LayerNorm over dim; five projections; left and right times mask times sigmoid of their "
    "gates; out[i, j] = sum over k of left[i, k] * right[j, k]; LayerNorm; times sigmoid of the out gate; to_out. "
    "Return one fp32 tensor [batch, n, n, dim]. All heavy work is in @triton.jit kernels, for an H100."
)


class TriMul:
    """The problem; see the module."""

    name = "trimul"
    space = SPACE
    triton = TritonRule(left_to_torch=frozenset({"bmm", "baddbmm"}))
    about = CONTRACT

    def seed_source(self) -> str:
        """The plain kernel that speed-ups are counted from."""
        return seed_text(self.name)

    def render(self, schedule: Schedule) -> str:
        """Write the Triton module of a schedule.

        Raises:
            ConfigurationError: the schedule isn't one of the space.
        """
        return render_trimul(self.space.validate_schedule(schedule))

    def benchmark(self) -> Sequence[Variant]:
        """GPU MODE's seven benchmark shapes, in its order."""
        normal, cauchy = Distribution.NORMAL, Distribution.CAUCHY
        rows = (
            (256, 2, 128, False, normal),
            (768, 1, 128, False, cauchy),
            (256, 2, 384, True, normal),
            (512, 1, 128, False, normal),
            (1024, 1, 128, False, cauchy),
            (768, 1, 384, True, normal),
            (1024, 1, 384, False, normal),
        )
        return [trimul_variant(n, batch, dim, mask=mask, distribution=like) for n, batch, dim, mask, like in rows]

    def tests(self) -> Sequence[Variant]:
        """GPU MODE's eighteen test shapes."""
        normal, cauchy = Distribution.NORMAL, Distribution.CAUCHY
        rows = (
            *((n, b, dim, mask, normal) for n, b, dim in ((32, 1, 128), (64, 2, 256)) for mask in (False, True)),
            (128, 1, 768, False, normal),
            *((256, 1, 128, mask, normal) for mask in (False, True)),
            (768, 2, 128, False, normal),
            (1024, 1, 384, True, normal),
            *((1024, 1, 768, mask, normal) for mask in (False, True)),
            *((n, b, dim, False, cauchy) for n, b, dim in ((32, 1, 128), (64, 2, 256), (128, 1, 768))),
            *((n, b, 128, False, cauchy) for n, b in ((256, 1), (768, 2))),
            *((1024, 1, dim, True, cauchy) for dim in (384, 768)),
        )
        return [trimul_variant(n, batch, dim, mask=mask, distribution=like) for n, batch, dim, mask, like in rows]

    def correctness(self, seed: int = 0) -> Sequence[Variant]:
        """Ragged and exact tiles, masked and not, as leaderboard files are written for; cheapest first."""
        draw = random.Random(seed)
        odd = (9, 11, 13, 15, 17)
        rows = (
            (draw.choice(odd), 2, draw.choice((128, 256, 384, 768)), True, Distribution.NORMAL),
            (32, 1, 128, False, Distribution.CAUCHY),
            (draw.choice(range(33, 50, 2)), 1, 128, False, Distribution.NORMAL),
            (draw.choice(odd), 1, 128, True, Distribution.BINARY),
            (draw.choice(odd), 1, 128, True, Distribution.NEEDLE),
        )
        cases = [trimul_variant(n, batch, dim, mask=mask, distribution=like) for n, batch, dim, mask, like in rows]
        return sorted(cases, key=self.flops)

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream."""
        return stream(self.name, seed, count, start, _draw_one)

    def slice_of(self, variant: Variant) -> str:
        """`small` or `large`, by whether the activations take more than 512 MiB."""
        elements = variant["batch"] * variant["n"] ** 2 * variant["dim"]
        return "small" if elements < 1 << 27 else "large"

    def smaller(self, variant: Variant) -> Sequence[Variant]:
        """Shorter sequences."""
        return smaller_variants(variant, "n", (64, 96, 128, 192, 256, 384, 512, 768))

    def tolerance(self, precision: Precision) -> Tolerance:
        """Limits of twice what an honest run errs by: in fp32 or TF32 in three parts, or else in bf16.

        In bf16 single elements miss the public 2e-2 by up to half of it, the norm errs by up to 6.5e-3, which is up to
        15 times what fp16 and TF32 do, and the slope by 2e-3 (200 seeds of `correctness`).
        """
        if precision is Precision.FP32:
            return Tolerance(rtol=6e-2, atol=6e-2, relative_l2=5e-5, slope=2e-5)
        return Tolerance(rtol=6e-2, atol=6e-2, relative_l2=1.35e-2, budget=30, slope=4.1e-3)

    def flops(self, variant: Variant) -> float:
        """Six projections and the triangle product."""
        rows = variant["batch"] * variant["n"] ** 2
        return 2.0 * rows * variant["hidden"] * (6 * variant["dim"] + variant["n"])

    def least_bytes(self, variant: Variant) -> float:
        """fp32 input and output, and the mask."""
        rows = variant["batch"] * variant["n"] ** 2
        return rows * (8.0 * variant["dim"] + (8 if variant["mask"] else 4))

    def specs(self, variant: Variant) -> dict[str, TensorSpec]:
        """The inputs' names, shapes and types; weights under the public harness's names."""
        rows, dim, hidden = (variant["batch"], variant["n"], variant["n"]), variant["dim"], variant["hidden"]
        shapes: dict[str, tuple[int, ...]] = {"input": (*rows, dim), "norm.weight": (dim,), "norm.bias": (dim,)}
        for name in ("left_proj", "right_proj", "left_gate", "right_gate", "out_gate"):
            shapes[f"{name}.weight"] = (hidden, dim)
        shapes |= {"to_out_norm.weight": (hidden,), "to_out_norm.bias": (hidden,), "to_out.weight": (dim, hidden)}
        specs = {name: TensorSpec(shape=shape, dtype="float32") for name, shape in shapes.items()}
        specs["mask"] = TensorSpec(shape=rows, dtype="int64" if variant["mask"] else "float32")
        return specs

    def output(self, variant: Variant) -> TensorSpec:
        """fp32, of the input's shape."""
        return self.specs(variant)["input"]

    def arguments(self, variant: Variant) -> JsonValue:
        """`(input, mask, weights, config)`."""
        weights = [name for name in self.specs(variant) if name not in ("input", "mask")]
        return {
            "tuple": [
                {"tensor": "input"},
                {"tensor": "mask"},
                {name: {"tensor": name} for name in weights},
                {"hidden_dim": variant["hidden"], "dim": variant["dim"]},
            ]
        }

    def weights(self, variant: Variant) -> frozenset[str]:
        """All but the activations and the mask."""
        return frozenset(self.specs(variant)) - {"input", "mask"}

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Draw every input from one generator."""
        from .trimul_reference import draw_inputs

        return draw_inputs(variant, self.specs(variant), seed)

    def reference(self, variant: Variant, inputs: "Arrays", rounding: Rounding = exact) -> "NDArray[np.float64]":
        """The exact output, in fp64; with a rounding, what an honest implementation in that precision gives."""
        from .trimul_reference import outgoing_trimul

        return outgoing_trimul(inputs, rounding)

    def sample(self, variant: Variant, seed: int, width: int) -> Sample | None:
        """A stretch of rows and columns of one batch: out[i, j] for a few i and j of it."""
        from ..grade import half
        from .trimul_sample import sample_trimul

        return sample_trimul(variant, self.specs(variant), seed, width, half)


def _draw_one(draw: random.Random) -> Variant:
    n, batch, dim = draw.choice(SIZES), draw.choice((1, 1, 2)), draw.choice(DIMS)
    like = draw.choice((Distribution.NORMAL, Distribution.CAUCHY))
    mask = draw.random() < 0.5
    precision = draw.choice((Precision.FP16, Precision.FP16, Precision.FP32))
    return trimul_variant(n, batch, dim, mask=mask, distribution=like, precision=precision)


def trimul_variant(
    n: int,
    batch: int = 1,
    dim: int = 128,
    hidden: int = 128,
    *,
    mask: bool = False,
    distribution: Distribution = Distribution.NORMAL,
    precision: Precision = Precision.FP16,
) -> Variant:
    """A variant of TriMul: activations [batch, n, n, dim], `hidden` channels inside."""
    parameters: dict[str, bool | int | float | str] = {
        "n": n,
        "batch": batch,
        "dim": dim,
        "hidden": hidden,
        "mask": mask,
    }
    return Variant(problem="trimul", parameters=parameters, distribution=distribution, precision=precision)
