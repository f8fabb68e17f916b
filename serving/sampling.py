# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""What is asked of the engine, and the distribution that a token is drawn from.

A choice among labels is drawn token by token: at each place only the tokens that continue some label are possible,
the rest are masked, and what is left is renormalised. Where one token is possible nothing is drawn and its
log-probability is zero; so labels of one token each are drawn from their exact likelihood.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Request:
    """One completion of one prompt."""

    prompt: tuple[int, ...]
    adapter: str | None = None
    max_tokens: int = 16
    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    choices: tuple[tuple[int, ...], ...] = ()
    """Token ids of each label; the answer is one of them."""
    ignore_eos: bool = False
    """Go on after the model's end of text."""
    alternatives: int = 0
    """How many of the likeliest tokens to report at each place."""


@dataclass
class Answer:
    """What was drawn. Log-probabilities are those of the distribution drawn from: after mask, temperature and top_p
    (at temperature 0: after the mask, at temperature 1)."""  # noqa: D205, D209

    token_ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list[list[tuple[int, float]]])
    text: str = ""
    finish_reason: str = "length"
    cached_tokens: int = 0
    cpu_seconds: float = 0.0
    """This answer's share of what its batch took."""


@dataclass
class Trie:
    """The labels that are still possible, as a tree of tokens."""

    children: dict[int, "Trie"] = field(default_factory=dict[int, "Trie"])
    complete: bool = False
    """Whether a label ends here."""

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]]) -> "Trie":
        """Build the tree of labels."""
        root = cls()
        for label in labels:
            node = root
            for token in label:
                node = node.children.setdefault(token, cls())
            node.complete = True
        return root

    def possible(self, end: int) -> list[int]:
        """Tokens that may come next, sorted; `end` where a label is complete and may also go on."""
        return sorted([*self.children, end] if self.complete and self.children else self.children)


@dataclass(frozen=True)
class Distribution:
    """Candidate tokens and their log-probabilities, aligned."""

    tokens: torch.Tensor | None
    """Ids, or none where index equals id."""
    logprobs: torch.Tensor
    """Float64."""

    @classmethod
    def over(cls, logits: torch.Tensor, tokens: torch.Tensor | None, request: Request) -> "Distribution":
        """Apply temperature and nucleus to logits (Holtzman et al., 2020) and normalise."""
        scaled = logits.double() / (request.temperature or 1.0)
        logprobs = scaled.log_softmax(-1)
        if request.top_p < 1.0:
            ordered, order = logprobs.sort(descending=True, stable=True)
            before = ordered.exp().cumsum(-1) - ordered.exp()
            dropped = order[before >= request.top_p]
            logprobs = logprobs.index_fill(0, dropped, -torch.inf).log_softmax(-1)
        return cls(tokens, logprobs)

    def draw(self, request: Request, source: random.Random) -> tuple[int, float]:
        """One token and its log-probability, by inversion, so that one uniform number decides it."""
        if request.temperature == 0.0:
            index = int(self.logprobs.argmax())
        else:
            mass = self.logprobs.exp().cumsum(-1)
            index = int(torch.searchsorted(mass, source.random() * float(mass[-1]), right=True))
            index = min(index, mass.shape[0] - 1)
        return self._id(index), float(self.logprobs[index])

    def likeliest(self, count: int) -> list[tuple[int, float]]:
        """The `count` likeliest tokens with their log-probabilities."""
        values, indices = self.logprobs.topk(min(count, self.logprobs.shape[0]))
        return [(self._id(int(i)), float(v)) for v, i in zip(values, indices, strict=True) if v > -torch.inf]

    def _id(self, index: int) -> int:
        return index if self.tokens is None else int(self.tokens[index])
