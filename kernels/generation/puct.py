"""PUCT over the store: which kernels to go on from, weighing what they led to against how little they were tried.

score(s) = Q(s) + c * scale * P(s) * sqrt(1 + T) / (1 + n(s))

After TTT-Discover, which takes it from AlphaZero (Silver et al. 2017).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .store import Kernel, Store

ANY = ""
"""Stands for all kernels among extra visits."""


@dataclass(frozen=True)
class Puct:
    """The weight of what was tried little."""

    c: float = 1.0


def scores(store: Store, rule: Puct | None = None, extra: Mapping[str, int] | None = None) -> dict[str, float]:
    """The score of every kernel that may be gone on from.

    - Q: the greatest value of its children, where it has any; its own value otherwise.
    - scale: greatest less least value of the open kernels.
    - P: falls linearly with the rank by value, and sums to one.
    - T: all trials; n: those from this kernel or its descendants, failed ones included.

    Args:
        store: the tree.
        rule: the weight.
        extra: visits to count on top by digest, as if those had been tried already; their number is under `ANY`.
    """
    rule, extra = rule or Puct(), extra or {}
    values = [store.kernels[digest].value for digest in store.open]
    scale, size = max(values) - min(values), len(values)
    reached: dict[str, float] = {}
    for kernel in store.kernels.values():
        if kernel.parent is not None:
            reached[kernel.parent] = max(reached.get(kernel.parent, -math.inf), kernel.value)
    total = 1 + store.trials + extra.get(ANY, 0)
    return {
        digest: reached.get(digest, store.kernels[digest].value)
        + rule.c
        * scale
        * (2 * (size - rank) / (size * (size + 1)))
        * math.sqrt(total)
        / (1 + store.visits[digest] + extra.get(digest, 0))
        for rank, digest in enumerate(store.open)
    }


def pick(store: Store, count: int, rule: Puct | None = None) -> list[Kernel]:
    """Choose parents for a batch, by score from the highest down.

    A pick blocks its whole lineage, ancestors and descendants, so that a batch doesn't put everything on one line of
    kernels. Once everything open is blocked, the blocks are lifted and the picks so far counted as visits. Of equal
    scores the higher rank goes first.
    """
    picked: list[str] = []
    visited: Counter[str] = Counter()
    while len(picked) < count:
        ranked = scores(store, rule, visited)
        for digest in _unrelated(store, sorted(store.open, key=lambda each: -ranked[each]))[: count - len(picked)]:
            picked.append(digest)
            visited.update([ANY, digest, *store.ancestors(digest)])
    return [store.kernels[digest] for digest in picked]


def _unrelated(store: Store, ranked: Sequence[str]) -> list[str]:
    """Kernels none of which descends from another, the first ones first."""
    chosen: set[str] = set()
    above: set[str] = set()
    found: list[str] = []
    for digest in ranked:
        line = store.ancestors(digest)
        if digest not in above and not chosen.intersection(line):
            found.append(digest)
            chosen.add(digest)
            above.update(line)
    return found
