"""TriMul: AlphaFold 3's outgoing triangle multiplicative update, forward, under the contract of GPU MODE's task.

`custom_kernel(data)` gets `(input, mask, weights, config)` and returns one fp32 tensor of the input's shape:
LayerNorm, five projections without bias, mask and sigmoid gates, `einsum('...ikd,...jkd->...ijd')`, LayerNorm,
gate, projection. The mask is fp32 ones when there is none, int64 zeros and ones otherwise.
"""

import random
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ..core import NotFound, derive_seed
from .problem import Distribution, KernelProblem, Precision, TensorSpec, Tolerance, Variant
from .render import render_trimul
from .schedule import Schedule, trimul_space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .problem import Arrays

SIZES = (256, 320, 384, 449, 512, 600, 768, 777, 1024)
"""Sequence lengths of drawn variants; the odd ones leave ragged tiles."""
DIMS = (128, 256, 384, 768)


class TriMul:
    """The problem; see the module."""

    name = "trimul"
    space = trimul_space()

    def seed_source(self) -> str:
        """The plain kernel that speed-ups are counted from."""
        return (files("pawl.kernels") / "seeds" / "trimul.py").read_text()

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
        return [
            Variant(n=n, batch=batch, dim=dim, mask=mask, distribution=distribution)
            for n, batch, dim, mask, distribution in rows
        ]

    def correctness(self, precision: Precision, seed: int = 0) -> Sequence[Variant]:
        """Ragged and exact tiles, one tile and several, with mask and without, dim below and above hidden."""
        draw = random.Random(seed)
        rows = (
            (draw.choice((9, 10, 11, 12, 13, 14, 15)), 2, 80, 16, Distribution.NORMAL, True),
            (draw.choice((16, 32)), 1, 32, 32, Distribution.CAUCHY, False),
            (draw.choice((65, 67, 69, 71, 73)), 1, 16, 16, Distribution.NORMAL, False),
        )
        return [
            Variant(n=n, batch=b, dim=dim, hidden=hidden, distribution=distribution, mask=mask, precision=precision)
            for n, b, dim, hidden, distribution, mask in rows
        ]

    def draw(self, seed: int, count: int, start: int = 0) -> list[Variant]:
        """Assignments `start` to `start + count` of a seed's endless stream."""
        return [self._draw(derive_seed(seed, "variant", self.name, index)) for index in range(start, start + count)]

    def _draw(self, seed: int) -> Variant:
        draw = random.Random(seed)
        return Variant(
            n=draw.choice(SIZES),
            batch=draw.choice((1, 1, 2)),
            dim=draw.choice(DIMS),
            distribution=draw.choice(list(Distribution)),
            mask=draw.random() < 0.5,
            precision=draw.choice((Precision.FP16, Precision.FP16, Precision.FP32)),
        )

    def slice_of(self, variant: Variant) -> str:
        """`small` or `large`, by whether the activations take more than 512 MiB."""
        elements = variant.batch * variant.n**2 * variant.dim
        return "small" if elements < 1 << 27 else "large"

    def tolerance(self, precision: Precision) -> Tolerance:
        """The public 2e-2 for every element, and a limit on the relative error that the contract sets."""
        limit = {Precision.FP32: 5e-5, Precision.FP16: 5e-3}[precision]
        return Tolerance(rtol=2e-2, atol=2e-2, relative_l2=limit)

    def flops(self, variant: Variant) -> float:
        """Six projections and the triangle product."""
        rows = variant.batch * variant.n**2
        return 2.0 * rows * variant.hidden * (6 * variant.dim + variant.n)

    def least_bytes(self, variant: Variant) -> float:
        """fp32 input and output, and the mask."""
        rows = variant.batch * variant.n**2
        return rows * (8.0 * variant.dim + (8 if variant.mask else 4))

    def specs(self, variant: Variant) -> dict[str, TensorSpec]:
        """The inputs' names, shapes and types; weights under the public harness's names."""
        rows, dim, hidden = (variant.batch, variant.n, variant.n), variant.dim, variant.hidden
        shapes: dict[str, tuple[int, ...]] = {"input": (*rows, dim), "norm.weight": (dim,), "norm.bias": (dim,)}
        for name in ("left_proj", "right_proj", "left_gate", "right_gate", "out_gate"):
            shapes[f"{name}.weight"] = (hidden, dim)
        shapes |= {"to_out_norm.weight": (hidden,), "to_out_norm.bias": (hidden,), "to_out.weight": (dim, hidden)}
        specs = {name: TensorSpec(shape=shape, dtype="float32") for name, shape in shapes.items()}
        specs["mask"] = TensorSpec(shape=rows, dtype="int64" if variant.mask else "float32")
        return specs

    def arguments(self, variant: Variant) -> JsonValue:
        """`(input, mask, weights, config)`."""
        weights = [name for name in self.specs(variant) if name not in ("input", "mask")]
        return {
            "tuple": [
                {"tensor": "input"},
                {"tensor": "mask"},
                {name: {"tensor": name} for name in weights},
                {"hidden_dim": variant.hidden, "dim": variant.dim},
            ]
        }

    def inputs(self, variant: Variant, seed: int) -> "Arrays":
        """Draw every input from one generator."""
        from .reference import draw_inputs

        return draw_inputs(variant, self.specs(variant), seed)

    def reference(self, variant: Variant, inputs: "Arrays") -> "NDArray[np.float64]":
        """The exact output, in fp64."""
        from .reference import outgoing_trimul

        return outgoing_trimul(inputs)


PROBLEMS: dict[str, KernelProblem] = {"trimul": TriMul()}


def find_problem(name: str) -> KernelProblem:
    """Look a problem up.

    Raises:
        NotFound: there is none of that name.
    """
    try:
        return PROBLEMS[name]
    except KeyError:
        raise NotFound(f"No kernel problem {name!r}; there are {sorted(PROBLEMS)}.") from None
