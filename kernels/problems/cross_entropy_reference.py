"""Cross-entropy's inputs and its reference in fp64."""

import numpy as np
from numpy.typing import NDArray

from ..problem import Distribution, Rounding, TensorSpec, Variant, exact
from .draws import Arrays, draw_place, draw_values, generator


def draw_inputs(variant: Variant, specs: dict[str, TensorSpec], seed: int) -> Arrays:
    """Draw logits and targets; every tenth row's target is the last class, and another tenth's the first.

    With a needle, one class outweighs the others together in every row, and is the target of every other.
    """
    draw = generator(seed)
    rows, classes = specs["logits"].shape
    logits = draw_values(draw, (rows, classes), variant.distribution, limit=100)
    targets = draw.integers(0, classes, rows)
    targets[::10], targets[5::10] = classes - 1, 0
    if variant.distribution is Distribution.NEEDLE:
        place = draw_place(draw, classes)
        logits[:, place] += np.log(classes) + 3
        targets[::2] = place
    return {"logits": logits.astype(np.float32), "targets": targets.astype(np.int64)}


def cross_entropy(inputs: Arrays, rounding: Rounding = exact) -> NDArray[np.float64]:
    """log(sum(exp(logits))) - logits[target], for each row.

    Args:
        inputs: `logits` [rows, classes], `targets` [rows].
        rounding: applied to the logits and the exponentials.

    Returns:
        The losses, [rows].
    """
    logits = rounding(inputs["logits"].astype(np.float64))
    peak = logits.max(axis=1, keepdims=True)
    total = rounding(np.exp(logits - peak)).sum(axis=1)
    chosen = np.take_along_axis(logits, inputs["targets"].astype(np.int64)[:, None], axis=1)
    return np.log(total) + (peak - chosen)[:, 0]
