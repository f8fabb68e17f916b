# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Memory of keys and values: pages of tokens in a prefix tree, shared by all sequences that begin alike.

A full page never changes, so every sequence with the same beginning points at the same pages. The last page of a
sequence may be partly filled; it is extended in place by its only user, and copied for a second one.
"""

from dataclasses import dataclass, field

import torch

PAGE = 32
"""Tokens a page."""


class OutOfPages(Exception):
    """Every page is pinned by a sequence that is being computed; the batch is too large for the pool."""


@dataclass(eq=False)
class Node:
    """One page and the tokens on it; its path from the root is the context that they were computed in."""

    page: int
    parent: "Node | None"
    tokens: list[int] = field(default_factory=list[int])
    children: list["Node"] = field(default_factory=list["Node"])
    users: int = 0
    used: int = 0


@dataclass(eq=False)
class Sequence:
    """A path of pages that is pinned while it is computed."""

    root: Node
    nodes: list[Node] = field(default_factory=list[Node])

    @property
    def length(self) -> int:
        """Tokens whose keys and values are held."""
        return (len(self.nodes) - 1) * PAGE + len(self.nodes[-1].tokens) if self.nodes else 0

    @property
    def pages(self) -> list[int]:
        """Page numbers in order."""
        return [node.page for node in self.nodes]


class Pages:
    """A pool of pages and one prefix tree for each adapter.

    Args:
        layers: transformer layers.
        heads: key-value heads of a layer.
        width: size of one head.
        dtype: type of keys and values.
        capacity: pages in the pool; page 0 is scratch for padding.
    """

    def __init__(self, layers: int, heads: int, width: int, dtype: torch.dtype, capacity: int) -> None:
        self.pool = torch.zeros(layers, 2, capacity, heads, PAGE, width, dtype=dtype)
        """Shape (layers, key or value, page, head, offset, width). Zeros, since scratch must stay finite."""
        self._held: dict[int, Node] = {}
        self._roots: dict[str | None, Node] = {}
        self._free: list[int] = []
        self._clock = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything; no sequence may be in use."""
        self._held.clear()
        self._roots.clear()
        self._free = list(range(self.pool.shape[2] - 1, 0, -1))

    def forget(self, adapter: str | None) -> None:
        """Drop the tree of one adapter, so that a later one can't meet its keys."""
        root = self._roots.pop(adapter, None)
        waiting = list(root.children) if root else []
        while waiting:
            node = waiting.pop()
            waiting.extend(node.children)
            self._free.append(self._held.pop(node.page).page)

    def acquire(self, adapter: str | None, tokens: tuple[int, ...], limit: int) -> Sequence:
        """Pin the longest held beginning of `tokens[:limit]`."""
        root = self._roots.setdefault(adapter, Node(0, None))
        sequence = Sequence(root)
        node = root
        while (start := sequence.length) < limit:
            wanted = tokens[start : min(start + PAGE, limit)]
            best, match = None, 0
            for child in node.children:
                common = common_prefix(child.tokens, wanted)
                if common > match or (
                    common == match > 0 and best is not None and len(child.tokens) < len(best.tokens)
                ):
                    best, match = child, common
            if best is None:
                break
            whole = match == len(best.tokens)
            if whole and (match == PAGE or best.users == 0):
                self._pin(sequence, best)
            else:
                self._pin(sequence, self._copy(best, node, match))
            if match < PAGE:
                break
            node = sequence.nodes[-1]
        return sequence

    def fork(self, sequence: Sequence) -> Sequence:
        """A second sequence with the same tokens, free to go on differently."""
        twin = Sequence(sequence.root)
        for node in sequence.nodes:
            full = len(node.tokens) == PAGE
            self._pin(twin, node if full else self._copy(node, node.parent or sequence.root, len(node.tokens)))
        return twin

    def append(self, sequence: Sequence, tokens: tuple[int, ...]) -> list[int]:
        """Make room for tokens at the end and return their slots (page * PAGE + offset)."""
        slots: list[int] = []
        for token in tokens:
            tail = sequence.nodes[-1] if sequence.nodes else sequence.root
            if not sequence.nodes or len(tail.tokens) == PAGE:
                fresh = Node(self._take(), tail)
                self._held[fresh.page] = fresh
                tail.children.append(fresh)
                self._pin(sequence, fresh)
                tail = fresh
            slots.append(tail.page * PAGE + len(tail.tokens))
            tail.tokens.append(token)
        return slots

    def release(self, sequence: Sequence) -> None:
        """Unpin; the pages stay in the tree until their room is needed."""
        for node in sequence.nodes:
            node.users -= 1
        sequence.nodes = []

    def _pin(self, sequence: Sequence, node: Node) -> None:
        self._clock += 1
        node.users += 1
        node.used = self._clock
        sequence.nodes.append(node)

    def _copy(self, source: Node, parent: Node, count: int) -> Node:
        source.users += 1  # the source must outlive the search for room
        try:
            twin = Node(self._take(), parent, source.tokens[:count])
        finally:
            source.users -= 1
        self.pool[:, :, twin.page] = self.pool[:, :, source.page]
        self._held[twin.page] = twin
        parent.children.append(twin)
        return twin

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        idle = [node for node in self._held.values() if node.users == 0 and not node.children]
        if not idle:
            raise OutOfPages
        oldest = min(idle, key=lambda node: node.used)
        if oldest.parent is not None:
            oldest.parent.children.remove(oldest)
        del self._held[oldest.page]
        return oldest.page


def common_prefix(left: list[int] | tuple[int, ...], right: list[int] | tuple[int, ...]) -> int:
    """Number of leading elements that are equal."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count


def shared_prefixes(prompts: list[tuple[int, ...]], start: int = 0) -> list[list[tuple[int, ...]]]:
    """Whole-page beginnings that several prompts share, stage by stage: each stage extends the ones before it."""
    if len(prompts) < 2:
        return []
    shared = common_prefix(min(prompts), max(prompts)) // PAGE * PAGE
    stages = [[prompts[0][:shared]]] if shared > start else []
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for prompt in prompts:
        groups.setdefault(prompt[shared : shared + PAGE], []).append(prompt)
    if len(groups) == 1:  # the rest is shorter than a page, or equal
        return stages
    below: list[list[tuple[int, ...]]] = []
    for group in groups.values():
        for depth, stage in enumerate(shared_prefixes(group, shared)):
            if depth == len(below):
                below.append([])
            below[depth].extend(stage)
    return stages + below
