"""Softmax's inputs and its reference in fp64."""

import numpy as np
from numpy.typing import NDArray

from ..problem import Distribution, Rounding, TensorSpec, Variant, exact
from .draws import Arrays, draw_place, draw_values, generator


def draw_inputs(variant: Variant, specs: dict[str, TensorSpec], seed: int) -> Arrays:
    """Draw x; with a needle, one value of each row outweighs the rest together, the same place in all."""
    draw = generator(seed)
    values = draw_values(draw, specs["x"].shape, variant.distribution, limit=100)
    if variant.distribution is Distribution.NEEDLE:
        place = draw_place(draw, variant["columns"])
        values[:, place] += np.log(variant["columns"]) + 3
    return {"x": values.astype(np.float32)}


def softmax(inputs: Arrays, rounding: Rounding = exact) -> NDArray[np.float64]:
    """exp(x - max) over its sum, along the last axis.

    Args:
        inputs: `x` [rows, columns].
        rounding: applied to the exponentials and the output.

    Returns:
        The output, [rows, columns].
    """
    x = inputs["x"].astype(np.float64)
    powers = rounding(np.exp(x - x.max(axis=1, keepdims=True)))
    return rounding(powers / powers.sum(axis=1, keepdims=True))
