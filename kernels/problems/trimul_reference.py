"""TriMul's inputs and its reference in fp64, in NumPy, so that grading needs no torch."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..problem import Distribution, Rounding, TensorSpec, Variant, exact

Arrays: TypeAlias = dict[str, NDArray[np.generic]]

EPSILON = 1e-5
"""LayerNorm's epsilon, torch's default."""


def draw_inputs(variant: Variant, specs: dict[str, TensorSpec], seed: int) -> Arrays:
    """Draw activations, mask and weights from one generator, in the order of the names.

    Weights are normal; a projection's are divided by the square root of its number of outputs, as the public
    harness does.
    """
    draw = np.random.Generator(np.random.Philox(seed))
    arrays: Arrays = {}
    for name, spec in sorted(specs.items()):
        if name == "mask":
            values = draw.integers(0, 2, spec.shape) if variant["mask"] else np.ones(spec.shape)
        elif name == "input" and variant.distribution is Distribution.CAUCHY:
            values = draw.standard_cauchy(spec.shape)
        else:
            values = draw.standard_normal(spec.shape)
            if len(spec.shape) == 2:
                values = values / np.sqrt(spec.shape[0])
        arrays[name] = values.astype(spec.dtype)
    return arrays


def outgoing_trimul(inputs: Arrays, rounding: Rounding = exact) -> NDArray[np.float64]:
    """AlphaFold 3's outgoing triangle multiplicative update (Abramson et al. 2024, supplement, algorithm 12).

    Args:
        inputs: `input` [B, N, N, dim], `mask` [B, N, N], and the weights by name, projections as [out, in].
        rounding: applied to the operands of every product and to the gates.

    Returns:
        The output, [B, N, N, dim].
    """
    of = {name: value.astype(np.float64) for name, value in inputs.items()}
    x = rounding(_layer_norm(of["input"], of["norm.weight"], of["norm.bias"]))
    projected = {
        name: x @ rounding(of[f"{name}.weight"]).T
        for name in ("left_proj", "right_proj", "left_gate", "right_gate", "out_gate")
    }
    mask = of["mask"][..., None]
    left = rounding(projected["left_proj"] * mask * _sigmoid(projected["left_gate"]))
    right = rounding(projected["right_proj"] * mask * _sigmoid(projected["right_gate"]))
    gate = rounding(_sigmoid(projected["out_gate"]))
    product = np.moveaxis(np.moveaxis(left, 3, 1) @ np.swapaxes(np.moveaxis(right, 3, 1), 2, 3), 1, 3)
    inner = _layer_norm(rounding(product), of["to_out_norm.weight"], of["to_out_norm.bias"])
    return rounding(inner * gate) @ rounding(of["to_out.weight"]).T


def _layer_norm(x: NDArray[np.float64], weight: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + EPSILON) * weight + bias


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
