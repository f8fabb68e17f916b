"""LayerNorm's inputs and its reference in fp64."""

import numpy as np
from numpy.typing import NDArray

from ..problem import Distribution, Rounding, TensorSpec, Variant, exact
from .draws import Arrays, draw_place, draw_values, generator

EPSILON = 1e-5


def draw_inputs(variant: Variant, specs: dict[str, TensorSpec], seed: int) -> Arrays:
    """Draw x and the parameters; normal rows lie around a mean of their own.

    With a needle, one value of each row outweighs the spread of the others, which is so small that a larger epsilon
    shows.
    """
    draw = generator(seed)
    values = {
        name: draw.standard_normal(spec.shape)
        if name != "x"
        else draw_values(draw, spec.shape, variant.distribution, limit=1e4)
        for name, spec in sorted(specs.items())
    }
    if variant.distribution is Distribution.NORMAL:
        values["x"] += 3 * draw.standard_normal((variant["rows"], 1))
    if variant.distribution is Distribution.NEEDLE:
        values["x"] *= 0.01
        values["x"][:, draw_place(draw, variant["columns"])] += 1 + draw.random(variant["rows"])
    return {name: values[name].astype(np.float32) for name in specs}


def layer_norm(inputs: Arrays, rounding: Rounding = exact) -> NDArray[np.float64]:
    """(x - mean) / sqrt(variance + 1e-5) * weight + bias, along the last axis (Ba et al. 2016, eq. 3).

    Args:
        inputs: `x` [rows, columns], `weight` and `bias` [columns].
        rounding: applied to the normalised values, the parameters and the output.

    Returns:
        The output, [rows, columns].
    """
    x = inputs["x"].astype(np.float64)
    weight, bias = (rounding(inputs[name].astype(np.float64)) for name in ("weight", "bias"))
    centred = x - x.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    return rounding(rounding(centred / np.sqrt(variance + EPSILON)) * weight + bias)
