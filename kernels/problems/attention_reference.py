"""Attention's inputs and its reference in fp64."""

import numpy as np
from numpy.typing import NDArray

from ..problem import Distribution, Rounding, TensorSpec, Variant, exact
from .draws import Arrays, draw_place, draw_values, generator


def draw_inputs(variant: Variant, specs: dict[str, TensorSpec], seed: int) -> Arrays:
    """Draw queries, keys and values; Cauchy ones stay within 5, since larger scores would be beyond fp16's rounding.

    With a needle, all queries and one key lie along one direction, so that this key outweighs the others together.
    Where attention is causal it is one of the first half, which most positions see.
    """
    draw = generator(seed)
    like = variant.distribution
    values = {name: draw_values(draw, spec.shape, like, limit=5) for name, spec in sorted(specs.items())}
    if like is Distribution.NEEDLE:
        n, d = variant["n"], variant["d"]
        place = draw_place(draw, (n + 1) // 2 if variant["causal"] else n)
        length = np.sqrt((np.log(n) + 3) / np.sqrt(d))
        direction = length * draw.choice((-1.0, 1.0), d)
        values["q"] = 0.3 * values["q"] + direction
        values["k"] *= 0.3
        values["k"][:, :, place] += direction
    return {name: values[name].astype(np.float16) for name in specs}


def attention(
    inputs: Arrays, *, causal: bool, rounding: Rounding = exact, positions: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, eq. 1).

    Args:
        inputs: `q`, `k` and `v`, [batch, heads, n, d]; q may have fewer positions than the others.
        causal: whether position i sees positions up to i alone.
        rounding: applied to the operands, which are fp16 already, to the weights before they are divided by their
            sum, and to the output.
        positions: those of the queries, [queries]; by default all n, in order.

    Returns:
        The output, of q's shape.
    """
    q, k, v = (rounding(inputs[name].astype(np.float64)) for name in ("q", "k", "v"))
    n, d = k.shape[2:]
    scores = q @ np.swapaxes(k, 2, 3) / np.sqrt(d)
    if causal:
        keys = np.arange(n, dtype=np.int64)
        rows = keys if positions is None else positions
        scores = np.where(keys <= rows[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=3, keepdims=True))
    return rounding(rounding(weights) @ v / weights.sum(axis=3, keepdims=True))
