"""Values of inputs, by distribution, all from one generator."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..problem import Distribution

Arrays: TypeAlias = dict[str, NDArray[np.generic]]
Values: TypeAlias = NDArray[np.float64]


def generator(seed: int) -> np.random.Generator:
    """The one generator of a run's inputs."""
    return np.random.Generator(np.random.Philox(seed))


def draw_values(
    draw: np.random.Generator, shape: tuple[int, ...], distribution: Distribution, limit: float = np.inf
) -> Values:
    """Draw activations: normal, Cauchy within +-`limit`, or zeros and ones. A needle's background is normal."""
    if distribution is Distribution.CAUCHY:
        return np.clip(draw.standard_cauchy(shape), -limit, limit)
    if distribution is Distribution.BINARY:
        return draw.integers(0, 2, shape).astype(np.float64)
    return draw.standard_normal(shape)


def draw_place(draw: np.random.Generator, size: int) -> int:
    """Where a needle lies: at the end in half of the draws, where a ragged tile is dropped, else anywhere."""
    return size - 1 if draw.random() < 0.5 else int(draw.integers(size))
