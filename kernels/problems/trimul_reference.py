"""TriMul's inputs and its reference in fp64, in NumPy, so that grading needs no torch."""

import numpy as np
from numpy.typing import NDArray

from ..problem import Distribution, Rounding, TensorSpec, Variant, exact
from .draws import Arrays, draw_place, draw_values, generator

EPSILON = 1e-5
"""LayerNorm's epsilon, torch's default."""


def draw_inputs(variant: Variant, specs: dict[str, TensorSpec], seed: int) -> Arrays:
    """Draw activations, mask and weights from one generator, in the order of the names.

    Weights are normal; a projection's are divided by the square root of its number of outputs, as the public
    harness does.

    With a needle, one k of the triangle sum is ordinary and the others fade: their activations vary so little that
    LayerNorm's epsilon holds them down, and the norm's bias is as small. So the needle outweighs the rest together,
    and an epsilon that is too large shows in what is left where the mask covers the needle.
    """
    draw = generator(seed)
    values = {name: _draw(name, spec.shape, variant, draw) for name, spec in sorted(specs.items())}
    if variant.distribution is Distribution.NEEDLE:
        place, faint = draw_place(draw, variant["n"]), 0.3 / np.sqrt(variant["n"])
        weight = np.full(variant["n"], faint * np.sqrt(EPSILON))
        weight[place] = 1.0
        values["input"] *= weight[:, None]
        values["norm.bias"] *= faint
    return {name: values[name].astype(spec.dtype) for name, spec in specs.items()}


def _draw(name: str, shape: tuple[int, ...], variant: Variant, draw: np.random.Generator) -> NDArray[np.float64]:
    if name == "mask":
        mask = draw.integers(0, 2, shape).astype(np.float64) if variant["mask"] else np.ones(shape)
        if variant["mask"] and draw.random() < 0.5:  # all but one, as a glance at a few doesn't tell
            mask = np.ones(shape)
            mask.flat[int(draw.integers(mask.size))] = 0.0
        return mask
    if name == "input":
        return draw_values(draw, shape, variant.distribution)
    values = draw.standard_normal(shape)
    return values / np.sqrt(shape[0]) if len(shape) == 2 else values


def outgoing_trimul(inputs: Arrays, rounding: Rounding = exact) -> NDArray[np.float64]:
    """AlphaFold 3's outgoing triangle multiplicative update (Abramson et al. 2024, supplement, algorithm 12).

    Args:
        inputs: `input` [B, N, N, dim], `mask` [B, N, N], and the weights by name, projections as [out, in].
        rounding: applied to the operands of every product and to the gates.

    Returns:
        The output, [B, N, N, dim].
    """
    everything = slice(None)
    return _outputs(inputs, everything, everything, everything, rounding)


def outgoing_pairs(
    inputs: Arrays, count: int, columns: NDArray[np.int64], rounding: Rounding = exact
) -> NDArray[np.float64]:
    """Some of the update's outputs, from the rows of the input that they depend on.

    Args:
        inputs: as `outgoing_trimul` takes them, but `input` [B, rows, N, dim] and `mask` [B, rows, N]: first the
            rows i, then the rows j.
        count: how many rows are i.
        columns: the place of each j along a row.
        rounding: as `outgoing_trimul` takes it.

    Returns:
        out[i, j], [B, count, rows - count, dim].
    """
    return _outputs(inputs, slice(0, count), slice(count, None), columns, rounding)


def _outputs(
    inputs: Arrays, i: slice, j: slice, columns: slice | NDArray[np.int64], rounding: Rounding
) -> NDArray[np.float64]:
    of = {name: value.astype(np.float64) for name, value in inputs.items()}
    x = rounding(_layer_norm(of["input"], of["norm.weight"], of["norm.bias"]))
    mask = of["mask"][..., None]

    def projected(name: str, rows: slice) -> NDArray[np.float64]:
        return x[:, rows] @ rounding(of[f"{name}.weight"]).T

    left = rounding(projected("left_proj", i) * mask[:, i] * _sigmoid(projected("left_gate", i)))
    right = rounding(projected("right_proj", j) * mask[:, j] * _sigmoid(projected("right_gate", j)))
    gate = rounding(_sigmoid(x[:, i, columns] @ rounding(of["out_gate.weight"]).T))
    product = np.moveaxis(np.moveaxis(left, 3, 1) @ np.swapaxes(np.moveaxis(right, 3, 1), 2, 3), 1, 3)
    inner = _layer_norm(rounding(product), of["to_out_norm.weight"], of["to_out_norm.bias"])
    return rounding(inner * gate) @ rounding(of["to_out.weight"]).T


def _layer_norm(x: NDArray[np.float64], weight: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + EPSILON) * weight + bias


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
