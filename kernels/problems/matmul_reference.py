"""The matrix product's inputs and its reference in fp64."""

import numpy as np
from numpy.typing import NDArray

from ..problem import Distribution, Rounding, TensorSpec, Variant, exact
from .draws import Arrays, draw_place, draw_values, generator


def draw_inputs(variant: Variant, specs: dict[str, TensorSpec], seed: int) -> Arrays:
    """Draw operands and bias; b is divided by the square root of k, so that the output is of the order of 1.

    Of zeros and ones all three are, and b whole: every sum below 2,048 is exact in fp16. With a needle, one column of
    a outweighs the others together, and b isn't divided.
    """
    draw = generator(seed)
    like, k = variant.distribution, variant["k"]
    if like is Distribution.BINARY:
        values = {name: draw_values(draw, spec.shape, like) for name, spec in sorted(specs.items())}
    else:
        values = {
            name: draw_values(draw, spec.shape, like, limit=100) if name == "a" else draw.standard_normal(spec.shape)
            for name, spec in sorted(specs.items())
        }
    if like is Distribution.NEEDLE:
        place = draw_place(draw, k)
        needle = values["a"][:, place].copy()
        values["a"] *= 0.1 / np.sqrt(k)
        values["a"][:, place] = needle
    elif like is not Distribution.BINARY:
        values["b"] /= np.sqrt(k)
    return {name: values[name].astype(np.float16) for name in specs}


def product(inputs: Arrays, activation: str, rounding: Rounding = exact) -> NDArray[np.float64]:
    """act(a @ b + bias).

    Args:
        inputs: `a` [m, k], `b` [k, n], `bias` [n].
        activation: `none`, `relu` or `silu` (x times its sigmoid).
        rounding: applied to the operands, which are fp16 already, and to the output.

    Returns:
        The output, [m, n].
    """
    a, b, bias = (rounding(inputs[name].astype(np.float64)) for name in ("a", "b", "bias"))
    total = a @ b + bias
    if activation == "relu":
        total = np.maximum(total, 0.0)
    elif activation == "silu":
        total = total * 0.5 * (1.0 + np.tanh(0.5 * total))
    return rounding(total)
