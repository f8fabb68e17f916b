"""What the problems have in common: families of shapes, streams of variants, the plain kernels' texts."""

import random
from collections.abc import Callable, Sequence
from importlib.resources import files

from ...core import derive_seed
from ..problem import Variant

ROWS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
"""Rising numbers of rows, for problems whose rows are each alone."""


def smaller_variants(variant: Variant, name: str, sizes: Sequence[int]) -> list[Variant]:
    """Those of the rising even sizes that are below the variant's, one more each if its own is odd, and the variant."""
    own = variant[name]
    below = [size + own % 2 for size in sizes if size + own % 2 < own]
    smaller = [variant.model_copy(update={"parameters": variant.parameters | {name: size}}) for size in below]
    return [*smaller, variant]


def stream(
    problem: str, seed: int, count: int, start: int, draw_one: Callable[[random.Random], Variant]
) -> list[Variant]:
    """Variants `start` to `start + count` of a seed's endless stream, the same however it is cut."""
    places = range(start, start + count)
    return [draw_one(random.Random(derive_seed(seed, "variant", problem, place))) for place in places]


def seed_text(problem: str) -> str:
    """The plain kernel of a problem in the house."""
    return (files("pawl.kernels.problems") / "seeds" / f"{problem}.py").read_text()
