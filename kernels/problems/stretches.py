"""Parts of outputs at any size, for problems whose rows, or columns, are each alone.

A stretch of rows is a small variant of the same problem, so that its values and its exact output are that variant's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..grade import half
from ..problem import KernelProblem, Sample, Variant
from .draws import Arrays, generator

LOOKED_AT = 32
"""Rows, or columns, of a stretch whose outputs are compared."""
LEAST = 16
"""Rows of a stretch where a row is so long that `ELEMENTS` hold fewer."""
ELEMENTS = 1 << 21
"""What a stretch comes to of any input: long rows are seldom taken many at a time."""


@dataclass(frozen=True)
class Stretch:
    """Indices from `first` to before `last` along one axis."""

    first: int
    last: int
    size: int
    """Of the axis."""

    @property
    def filled(self) -> tuple[int, int]:
        """One more on each side, since tiles need not begin with the stretch."""
        return max(self.first - 1, 0), min(self.last + 1, self.size)

    @property
    def count(self) -> int:
        """Of what is filled."""
        low, high = self.filled
        return high - low


def draw_stretch(draw: np.random.Generator, size: int, width: int) -> Stretch:
    """Draw one of the stretches that an axis falls into, the ragged last one among them."""
    first = width * int(draw.integers(-(-size // width)))
    return Stretch(first, min(first + width, size), size)


def draw_places(draw: np.random.Generator, stretch: Stretch) -> NDArray[np.int64]:
    """Draw what is looked at, as places in the stretch; its first and its last are always among them."""
    count = stretch.last - stretch.first
    between = draw.choice(np.arange(1, max(count - 1, 1)), min(LOOKED_AT, count) - min(2, count), replace=False)
    return np.unique(np.concatenate([[0, count - 1], between])).astype(np.int64)


def resized(variant: Variant, sizes: Mapping[str, int]) -> Variant:
    """The variant with other sizes."""
    return variant.model_copy(update={"parameters": variant.parameters | dict(sizes)})


def sample_stretches(problem: KernelProblem, variant: Variant, along: Sequence[str], seed: int, width: int) -> Sample:
    """Draw a stretch along each of the parameters that count rows or columns, and all that depends on it.

    Args:
        problem: one whose output along these parameters depends on the inputs at the same indices alone.
        variant: sizes, distribution and contract.
        along: the parameters, in the order of the output's first axes.
        seed: what everything is drawn from.
        width: of a stretch, a power of two.
    """
    draw = generator(seed)
    specs, output = problem.specs(variant), problem.output(variant)
    axes = _axes(problem, variant, along)
    stretches: dict[str, Stretch] = {}
    for parameter in along:
        longest = max(math.prod(specs[name].shape) // variant[parameter] for name in specs if parameter in axes[name])
        fitting = 1 << (max(ELEMENTS // longest, LEAST).bit_length() - 1)
        stretches[parameter] = draw_stretch(draw, variant[parameter], min(width, fitting))
    small = resized(variant, {parameter: stretch.count for parameter, stretch in stretches.items()})
    inputs = problem.inputs(small, int(draw.integers(1 << 62)))
    places = {parameter: draw_places(draw, stretch) for parameter, stretch in stretches.items()}
    fills: list[tuple[str, list[tuple[int, int]], NDArray[np.generic]]] = []
    given: Arrays = {}
    for name, values in sorted(inputs.items()):
        block = [(0, size) for size in specs[name].shape]
        picked = values
        for axis, parameter in enumerate(axes[name]):
            if parameter:
                stretch = stretches[parameter]
                block[axis] = stretch.filled
                picked = np.take(picked, places[parameter] + stretch.first - stretch.filled[0], axis=axis)
        given[name] = picked
        if values.ndim == 1:  # read by tiles of their own, or as a whole
            whole = np.resize(values, specs[name].shape)
            whole[slice(*block[0])] = values
            values, block = whole, [(0, len(whole))]
        fills.append((name, block, values))
    looked = resized(variant, {parameter: len(each) for parameter, each in places.items()})
    cut = [(stretch.first, stretch.last) for stretch in stretches.values()]
    return Sample(
        fills=fills,
        block=[*cut, *((0, size) for size in output.shape[len(cut) :])],
        places=np.ix_(*places.values()),
        reference=problem.reference(looked, given),
        baseline=problem.reference(looked, given, half),
    )


def _axes(problem: KernelProblem, variant: Variant, along: Sequence[str]) -> dict[str, list[str | None]]:
    """For each input, the parameter that counts along each axis, seen from what changes with it."""
    specs = problem.specs(variant)
    found: dict[str, list[str | None]] = {name: [None] * len(spec.shape) for name, spec in specs.items()}
    for parameter in along:
        longer = problem.specs(resized(variant, {parameter: variant[parameter] + 1}))
        for name, spec in specs.items():
            for axis, size in enumerate(spec.shape):
                if longer[name].shape[axis] != size:
                    found[name][axis] = parameter
    return found
