"""Which call comes when: drawn from a seed that the submission doesn't know, so that no call tells what it is for.

The shapes come in random order, and each a random number of times. The first calls of a shape are warm-ups, but look
like all others; a share of the rest repeats pointers with other contents; profiled calls can be told apart, and are
therefore graded but not timed.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ...core import derive_seed


class Purpose(StrEnum):
    """What a call is for; its process learns of `PROFILED` alone."""

    WARM_UP = "warm-up"
    TIMED = "timed"
    PROFILED = "profiled"


@dataclass(frozen=True)
class Counts:
    """How many calls each shape gets."""

    warm_ups: int = 2
    timed: int = 12
    extra: int = 4
    """Up to so many timed calls more, as drawn."""
    profiled: int = 2
    same_pointer: float = 0.25
    """Share of the calls after a shape's first that get its last pointers again, with new contents."""


@dataclass(frozen=True)
class Call:
    """One call of `custom_kernel`."""

    number: int
    shape: int
    """Index of the variant."""
    purpose: Purpose
    seed: int
    """Of its inputs; no two calls share one."""
    again: bool
    """Whether it gets the pointers of the shape's call before."""


def draw_schedule(seed: int, shapes: int, counts: Counts) -> tuple[Call, ...]:
    """Draw the calls of one process, in order; the same seed draws the same."""
    draw = random.Random(derive_seed(seed, "order"))
    waiting: list[Iterator[Purpose]] = []
    order: list[int] = []
    for shape in range(shapes):
        late = [Purpose.TIMED] * (counts.timed + draw.randint(0, counts.extra)) + [Purpose.PROFILED] * counts.profiled
        draw.shuffle(late)
        purposes = [Purpose.WARM_UP] * counts.warm_ups + late
        waiting.append(iter(purposes))
        order += [shape] * len(purposes)
    draw.shuffle(order)
    calls: list[Call] = []
    seen: set[int] = set()
    for number, shape in enumerate(order):
        again = shape in seen and draw.random() < counts.same_pointer
        seen.add(shape)
        calls.append(Call(number, shape, next(waiting[shape]), derive_seed(seed, "inputs", number), again))
    return tuple(calls)
