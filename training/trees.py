"""Packing: sequences that share prefixes become one tree, so that a shared token is computed once.

    packs = pack(datums, tokens=512)

Rollouts on one item share their prompt, and fields chosen alike share more. A pack holds a forest of such prefix
trees, flattened parents first; with attention restricted to a token's ancestors, and positions counted by depth,
one forward gives every sequence's hidden states exactly, without padding (the gradients add up as in the separate
forwards, since a node is used by every sequence through it).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .datums import Datum


@dataclass(frozen=True)
class Decision:
    """One token that the policy chose."""

    node: int
    """The node whose hidden state the choice was made from: the token before."""
    token: int
    behaviour_logprob: float
    advantage: float
    weight: float
    temperature: float
    allowed: tuple[int, ...] | None
    reward: float = 0.0
    rollout: str = ""
    """Rollout that it is a step of; empty where the datum doesn't say."""
    order: tuple[int, int] = (0, 0)
    """Its place in the rollout: the datum's part, and the token's index."""


@dataclass(frozen=True)
class Pack:
    """A forest of prefix trees, flattened; `parents[i] < i`, and -1 for a root."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    decisions: tuple[Decision, ...]
    rows: tuple[int, ...]
    """Vocabulary rows that the masked decisions need, sorted."""


def pack(datums: Sequence[Datum], tokens: int) -> list[Pack]:
    """Pack datums into forests of at most `tokens` nodes each (one sequence may exceed it alone).

    Args:
        datums: sequences in any order; the packing depends only on the set of them.
        tokens: nodes a pack; bounds the square attention mask and the activations.
    """
    packs: list[Pack] = []
    current = _Builder()
    for datum in sorted(datums, key=lambda datum: (datum.tokens, datum.model_dump_json())):
        if current.nodes and len(current.nodes) + current.missing(datum) > tokens:
            packs.append(current.finish())
            current = _Builder()
        current.add(datum)
    if current.nodes:
        packs.append(current.finish())
    return packs


class _Builder:
    def __init__(self) -> None:
        self.nodes: dict[tuple[int, int], int] = {}  # (parent, token) to node
        self.depths: list[int] = []
        self.decisions: list[Decision] = []

    def missing(self, datum: Datum) -> int:
        """How many nodes a datum would add."""
        parent = -1
        for depth, token in enumerate(datum.tokens[:-1]):
            node = self.nodes.get((parent, token))
            if node is None:
                return len(datum.tokens) - 1 - depth
            parent = node
        return 0

    def add(self, datum: Datum) -> None:
        parent = -1
        for depth, token in enumerate(datum.tokens):
            if datum.mask[depth]:
                allowed = datum.allowed[depth]
                self.decisions.append(
                    Decision(
                        node=parent,
                        token=token,
                        behaviour_logprob=datum.behaviour_logprobs[depth],
                        advantage=datum.advantages[depth],
                        weight=datum.weight,
                        temperature=datum.temperature,
                        allowed=None if allowed is None else tuple(allowed),
                        reward=0.0 if datum.rewards is None else datum.rewards[depth],
                        rollout=datum.rollout_id,
                        order=(datum.part, depth),
                    )
                )
            if depth == len(datum.tokens) - 1:
                break  # nothing is chosen after the last token, so it needs no node
            node = self.nodes.get((parent, token))
            if node is None:
                node = len(self.nodes)
                self.nodes[parent, token] = node
                self.depths.append(depth)
            parent = node

    def finish(self) -> Pack:
        rows: set[int] = set()
        for decision in self.decisions:
            rows.update(decision.allowed or ())
        return Pack(
            tokens=tuple(token for _, token in self.nodes),
            parents=tuple(parent for parent, _ in self.nodes),
            depths=tuple(self.depths),
            decisions=tuple(self.decisions),
            rows=tuple(sorted(rows)),
        )
