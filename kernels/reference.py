"""TriMul's inputs and its reference in fp64, in NumPy, so that grading needs no torch."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .problem import Distribution, TensorSpec, Variant

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
            values = draw.integers(0, 2, spec.shape) if variant.mask else np.ones(spec.shape)
        elif name == "input" and variant.distribution is Distribution.CAUCHY:
            values = draw.standard_cauchy(spec.shape)
        else:
            values = draw.standard_normal(spec.shape)
            if len(spec.shape) == 2:
                values = values / np.sqrt(spec.shape[0])
        arrays[name] = values.astype(spec.dtype)
    return arrays


def outgoing_trimul(inputs: Arrays) -> NDArray[np.float64]:
    """AlphaFold 3's outgoing triangle multiplicative update (Abramson et al. 2024, supplement, algorithm 12).

    Args:
        inputs: `input` [B, N, N, dim], `mask` [B, N, N], and the weights by name, projections as [out, in].

    Returns:
        The output, [B, N, N, dim].
    """
    of = {name: value.astype(np.float64) for name, value in inputs.items()}
    x = _layer_norm(of["input"], of["norm.weight"], of["norm.bias"])
    mask = of["mask"][..., None]
    left = (x @ of["left_proj.weight"].T) * mask * _sigmoid(x @ of["left_gate.weight"].T)
    right = (x @ of["right_proj.weight"].T) * mask * _sigmoid(x @ of["right_gate.weight"].T)
    gate = _sigmoid(x @ of["out_gate.weight"].T)
    product = np.moveaxis(np.moveaxis(left, 3, 1) @ np.swapaxes(np.moveaxis(right, 3, 1), 2, 3), 1, 3)
    return (_layer_norm(product, of["to_out_norm.weight"], of["to_out_norm.bias"]) * gate) @ of["to_out.weight"].T


def _layer_norm(x: NDArray[np.float64], weight: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + EPSILON) * weight + bias


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
