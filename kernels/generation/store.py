"""The store of kernels: a tree of what was tried, grown from a list of trials alone.

store = grow(seed_source, [Trial(source=source, parent=digest_source(seed_source), value=0.4)])
store.best(1)

It has no state of its own: the same trials in the same order give the same store.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import fsum, isfinite

from pydantic import JsonValue

from ...core import digest_bytes


def digest_source(source: str) -> str:
    """The identity of a kernel: SHA-256 of its text."""
    return digest_bytes(source.encode(errors="surrogatepass"))


@dataclass(frozen=True)
class Trial:
    """One kernel that was written, starting from another."""

    source: str
    parent: str | None
    """Digest of the kernel that it was developed from; none, or one that isn't in the tree, counts as the seed."""
    value: float | None
    """What it is worth, more is better; none if it was rejected."""
    about: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """What is to be shown of it, such as where its time goes."""


@dataclass(frozen=True)
class Kernel:
    """An accepted kernel in the tree."""

    digest: str
    source: str
    parent: str | None
    """None for the seed alone."""
    value: float
    """Mean over the trials that gave this text: one text may have been tried on several assignments."""
    about: Mapping[str, JsonValue]
    """Of the best of them."""


@dataclass(frozen=True)
class Keep:
    """What remains a candidate for going on."""

    children: int = 2
    """The best children of each kernel."""
    buffer: int = 1000
    """Kernels in all, the best ones, beside the seed."""
    source_bytes: int = 32 << 10
    """A longer text is counted as a trial and not kept: it would not fit into a prompt."""


@dataclass(frozen=True)
class Store:
    """The tree; `seed` and `open` name kernels of `kernels`."""

    seed: str
    kernels: Mapping[str, Kernel]
    """Every accepted kernel by digest, in the order in which they came."""
    open: tuple[str, ...]
    """Those that may be gone on from, the best first; always with the seed."""
    visits: Mapping[str, int]
    """Trials that started from a kernel or from any descendant of it, failed ones included."""
    trials: int
    """All of them."""

    def ancestors(self, digest: str) -> list[str]:
        """A kernel's parent, its parent's parent, and so on to the seed."""
        found: list[str] = []
        parent = self.kernels[digest].parent
        while parent is not None:
            found.append(parent)
            parent = self.kernels[parent].parent
        return found

    def best(self, count: int) -> list[Kernel]:
        """The best that may be gone on from."""
        return [self.kernels[digest] for digest in self.open[:count]]


def grow(seed: str, trials: Iterable[Trial], keep: Keep | None = None, *, value: float = 0.0) -> Store:
    """Grow the tree from its seed.

    A text is one kernel however often it is written: its first parent stays, its value is the mean. A trial that
    writes its own parent again tries nothing and is no visit; it is one more measurement of that kernel.

    Args:
        seed: the module that everything descends from.
        trials: in the order in which they were made.
        keep: what may be gone on from.
        value: the seed's.
    """
    keep = keep or Keep()
    root = digest_source(seed)
    parents: dict[str, str | None] = {root: None}
    sources = {root: seed}
    seen: dict[str, list[tuple[float, Mapping[str, JsonValue]]]] = {root: [(value, {})]}
    visits = {root: 0}
    count = 0
    for trial in trials:
        digest = digest_source(trial.source)
        parent = trial.parent if trial.parent in parents else root
        if digest != parent:
            count += 1
            at: str | None = parent
            while at is not None:
                visits[at] += 1
                at = parents[at]
        if trial.value is None or not isfinite(trial.value):
            continue
        if digest not in parents:
            if len(trial.source.encode(errors="surrogatepass")) > keep.source_bytes:
                continue
            parents[digest], sources[digest], visits[digest], seen[digest] = parent, trial.source, 0, []
        if digest != root:  # what the seed is worth is given
            seen[digest].append((trial.value, trial.about))
    kernels = {
        digest: Kernel(
            digest=digest,
            source=sources[digest],
            parent=parent,
            value=fsum(each for each, _ in seen[digest]) / len(seen[digest]),
            about=max(seen[digest], key=lambda one: one[0])[1],
        )
        for digest, parent in parents.items()
    }
    return Store(seed=root, kernels=kernels, open=_open(root, kernels, keep), visits=visits, trials=count)


def _open(seed: str, kernels: Mapping[str, Kernel], keep: Keep) -> tuple[str, ...]:
    def rank(digest: str) -> tuple[float, str]:
        return -kernels[digest].value, digest

    children: dict[str, list[str]] = {}
    for digest, kernel in kernels.items():
        if kernel.parent is not None:
            children.setdefault(kernel.parent, []).append(digest)
    best = [digest for family in children.values() for digest in sorted(family, key=rank)[: keep.children]]
    return tuple(sorted([seed, *sorted(best, key=rank)[: keep.buffer]], key=rank))
