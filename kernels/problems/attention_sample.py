"""A part of attention's output at any size: a stretch of one head's queries, which see all of its keys."""

import numpy as np

from ..grade import half
from ..problem import KernelProblem, Sample, Variant
from .attention_reference import attention
from .draws import generator
from .stretches import draw_places, draw_stretch, resized


def sample_queries(problem: KernelProblem, variant: Variant, seed: int, width: int) -> Sample:
    """Draw the head and the stretch; the values are those of a variant that has this head alone."""
    draw = generator(seed)
    batch, head = (int(draw.integers(int(variant[name]))) for name in ("batch", "heads"))
    stretch = draw_stretch(draw, variant["n"], width)
    inputs = problem.inputs(resized(variant, {"batch": 1, "heads": 1}), int(draw.integers(1 << 62)))
    places = draw_places(draw, stretch)
    positions = places + stretch.first
    given = inputs | {"q": inputs["q"][:, :, positions]}
    causal, alone = bool(variant["causal"]), [(batch, batch + 1), (head, head + 1)]
    whole, channels = (0, int(variant["n"])), (0, int(variant["d"]))
    low, high = stretch.filled
    return Sample(
        fills=[
            ("q", [*alone, (low, high), channels], inputs["q"][:, :, low:high]),
            *((name, [*alone, whole, channels], inputs[name]) for name in ("k", "v")),
        ],
        block=[*alone, (stretch.first, stretch.last), channels],
        places=np.ix_(np.zeros(1, np.int64), np.zeros(1, np.int64), places),
        reference=attention(given, causal=causal, positions=positions),
        baseline=attention(given, causal=causal, rounding=half, positions=positions),
    )
