# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""Which programs of a launch stand for all: neighbours, which run at the same time, and some from all over the grid.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

WINDOW = 264
"""Consecutive programs taken to run at once: two for each of 132 multiprocessors."""
ROW, SPREAD, STRATA = 12, 20, 12
"""Programs run: side by side, from anywhere in the window, and from all over the grid."""
BATCH = 128
"""Programs run together."""


@dataclass(frozen=True)
class Sample:
    """Linear ids of the programs that are run, each ascending."""

    row: np.ndarray
    """One beside the other."""
    spread: np.ndarray
    """At work at the same time."""
    strata: np.ndarray
    """From all over the grid, with its first and last."""
    window: int
    """How many are at work at the same time."""

    @property
    def batches(self) -> list[np.ndarray]:
        """Every program once; those near one another together."""
        near = np.union1d(self.row, self.spread)
        if len(self.strata) <= BATCH:
            return [np.union1d(near, self.strata)]
        others = np.setdiff1d(self.strata, near)
        return [near, *(others[start : start + BATCH] for start in range(0, len(others), BATCH))]


def draw_sample(total: int) -> Sample:
    """The programs to run of so many, the same for every launch of that size."""
    draw = np.random.Generator(np.random.Philox(total))
    window = min(WINDOW, total)
    first = (total - window) // 2
    edges = np.linspace(0, total, min(STRATA, total) + 1).astype(np.int64)
    strata = np.array([draw.integers(low, high) for low, high in pairwise(edges)])
    strata[0], strata[-1] = 0, total - 1
    spread = first + np.sort(draw.choice(window, min(SPREAD, window), replace=False))
    return Sample(first + np.arange(min(ROW, window)), spread, np.unique(strata), window)


def ways(ids: np.ndarray, choices: np.ndarray | None) -> Iterator[np.ndarray]:
    """The programs of a batch that has gone apart, by the ways that they go."""
    if choices is None or choices.shape != ids.shape:
        yield from ids[:, None]
        return
    for choice in np.unique(choices):
        yield ids[choices == choice]


def distinct(origins: np.ndarray, window: float) -> float:
    """How many different regions `window` programs touch a program of the window: 1 if each has its own.

    From the number of distinct ones in the sample, by the expectation d = u (1 - (1 - 1/u)^s).
    """
    sample, found = len(origins), len(np.unique(origins))
    if found >= sample:
        return 1.0
    low, high = 1.0, max(window, 1.0)
    for _ in range(40):
        middle = (low * high) ** 0.5
        if middle * (1 - (1 - 1 / middle) ** sample) < found:
            low = middle
        else:
            high = middle
    return min(high / max(window, 1.0), 1.0)
