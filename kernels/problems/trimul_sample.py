"""A block of TriMul's output at any size: out[i, j] for i and j of one stretch, from rows i and j of the input."""

import numpy as np
from numpy.typing import NDArray

from ..problem import Rounding, Sample, TensorSpec, Variant
from .draws import Arrays, draw_values, generator
from .trimul_reference import outgoing_pairs

LOOKED_AT = 8
"""Rows i, and as many columns j, whose outputs are compared."""


def sample_trimul(variant: Variant, specs: dict[str, TensorSpec], seed: int, width: int, half: Rounding) -> Sample:
    """Draw the stretch, and the rows of the input that its outputs depend on.

    The row before it and the one after it are filled too, since tiles of the projections need not begin with it.
    """
    draw = generator(seed)
    n, batches = int(variant["n"]), int(variant["batch"])
    batch = int(draw.integers(batches))
    first = width * int(draw.integers(-(-n // width)))
    last = min(first + width, n)
    fills: list[tuple[str, list[tuple[int, int]], NDArray[np.generic]]] = []
    rows: Arrays = {}
    for name, spec in sorted(specs.items()):
        if name == "input":
            for b, low, high in _stretches(_around(batch, first, last, n, batches)):
                block = [(b, b + 1), (low, high), (0, n), (0, spec.shape[-1])]
                shape = tuple(high - low for low, high in block)
                values = draw_values(draw, shape, variant.distribution).astype(spec.dtype)
                fills.append((name, block, values))
                if b == batch and low <= first < high:
                    rows[name] = values[:, first - low : last - low]
        elif name == "mask":
            values = (draw.integers(0, 2, spec.shape) if variant["mask"] else np.ones(spec.shape)).astype(spec.dtype)
            fills.append((name, [(0, size) for size in spec.shape], values))
            rows[name] = values[batch : batch + 1, first:last]
        else:
            whole = draw.standard_normal(spec.shape)
            values = (whole / np.sqrt(spec.shape[0]) if len(spec.shape) == 2 else whole).astype(spec.dtype)
            fills.append((name, [(0, size) for size in spec.shape], values))
            rows[name] = values
    i, j = (np.sort(draw.choice(last - first, min(LOOKED_AT, last - first), replace=False)) for _ in range(2))
    # The rows i and the rows j, one after the other: a reference on them has out[i, j] among its outputs.
    both = np.concatenate([i, j])
    given = rows | {name: rows[name][:, both] for name in ("input", "mask")}
    columns = first + j
    output = [(batch, batch + 1), (first, last), (first, last), (0, variant["dim"])]
    places = (np.zeros((len(i), len(j)), np.int64), *np.meshgrid(i, j, indexing="ij"))
    return Sample(
        fills=fills,
        block=output,
        places=places,
        reference=outgoing_pairs(given, len(i), columns)[0],
        baseline=outgoing_pairs(given, len(i), columns, half)[0],
    )


def _around(batch: int, first: int, last: int, n: int, batches: int) -> list[tuple[int, int]]:
    flat = range(max(batch * n + first - 1, 0), min(batch * n + last + 1, batches * n))
    return [divmod(row, n) for row in flat]


def _stretches(rows: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for b in sorted({b for b, _ in rows}):
        mine = [i for each, i in rows if each == b]
        found.append((b, min(mine), max(mine) + 1))
    return found
