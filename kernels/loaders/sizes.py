"""Which of a foreign problem's parameters are sizes, and how they may be changed.

A folder's public cases show it: a parameter that they give several values is a size; one that they give only in
multiples of more than 32 is taken for a promise that submissions rely on, and is never made odd. A model has one case,
so of it only the batch changes.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from .source import ForeignSource, Format, Parameters

LEAST = 8
"""Integers up to this choose a kernel size, a number of heads or an axis, and are left as they are."""
PROMISED = 32


@dataclass(frozen=True)
class Size:
    """A parameter that may be changed."""

    values: tuple[int, ...]
    """What public cases give it."""
    ragged: bool
    """Whether it may be odd."""


def find_sizes(source: ForeignSource) -> dict[str, Size]:
    """The sizes that may be changed, by name."""
    values: dict[str, set[int]] = {}
    for parameters in (*source.tests, *source.benchmarks):
        for name, value in parameters.items():
            if type(value) is int and value > LEAST:
                values.setdefault(name, set()).add(value)
    if source.format is Format.KERNEL_BENCH:
        return {name: Size(tuple(seen), True) for name, seen in sorted(values.items()) if "batch" in name.lower()}
    return {
        name: Size(tuple(sorted(seen)), math.gcd(*seen) <= PROMISED)
        for name, seen in sorted(values.items())
        if len(seen) > 1
    }


def change(parameters: Parameters, name: str, size: Size, draw: random.Random) -> Parameters:
    """One size a little smaller and odd, or, where multiples are promised, another of its public values."""
    value = int(cast("int", parameters[name]))
    if size.ragged and value > LEAST:
        return parameters | {name: draw.randrange(value * 3 // 4, value) | 1}
    return parameters | {name: draw.choice(size.values)}


def cap(
    parameters: Parameters, sizes: Mapping[str, Size], caps: Sequence[int], every: bool = False
) -> list[Parameters]:
    """The parameters with sizes brought down to each cap: those that may be odd, or every one if there is none."""
    ragged = {name for name, size in sizes.items() if size.ragged}
    found: list[Parameters] = []
    for most in caps:
        above = {
            name: value
            for name, value in parameters.items()
            if type(value) is int and value > most and (every or not ragged or name in ragged)
        }
        found += [parameters | {name: _reduce(value, most) for name, value in above.items()}] if above else []
    return found


def _reduce(size: int, most: int) -> int:
    """Halve, which keeps what divides a size dividing it; to one more than the cap if odd."""
    if size % 2:
        return min(size, most + 1)
    while size > most and size % 2 == 0:
        size //= 2
    return min(size, most)


def weight(parameters: Parameters) -> float:
    """Roughly how large a case is, before anything is known of it."""
    return math.prod(float(value) for value in parameters.values() if type(value) is int and value > 0)


def options(parameters: Parameters) -> list[tuple[str, object]]:
    """What of the parameters is no size."""
    return sorted((name, value) for name, value in parameters.items() if type(value) is not int)
