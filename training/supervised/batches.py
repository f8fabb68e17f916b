# pyright: reportUnknownMemberType=false
"""Examples of a supervised job, the steps they are learned in, and the tensors of a pass.

    examples = [Example((row([datum]),), weight=1.0, mass=3.0, datums=1), ...]
    steps = Steps(examples, order(job, len(examples), job.minibatch), start=0, tokens=job.pack_tokens)
    steps[0]                                     # the passes of one optimiser step: dicts of tensors

Every order derives from the job's seed and the epoch, so that a resumed job meets the examples that it would have met.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ...core import ConfigurationError, derive_seed
from ..datums import Datum
from ..job import TrainJob

IGNORED = -100
"""Label of a token that is not learned."""


@dataclass(frozen=True)
class Row:
    """The sequences of one rollout, end to end; none sees another."""

    tokens: list[int]
    labels: list[int]
    """The token where the policy chose it, else `IGNORED`."""
    positions: list[int]
    """Within the token's own sequence."""
    documents: list[int]
    """Which sequence a token is of."""


@dataclass(frozen=True)
class Example:
    """What one rollout, or one pair of them, teaches."""

    rows: tuple[Row, ...]
    """One row that is imitated, or the better and the worse one."""
    weight: float
    mass: float
    """Its share of a step's loss, in the unit that the loss is a mean of, times its weight."""
    datums: int


def row(datums: Sequence[Datum]) -> Row:
    """Lay sequences end to end."""
    return Row(
        tokens=[token for datum in datums for token in datum.tokens],
        labels=[
            token if chosen else IGNORED
            for datum in datums
            for token, chosen in zip(datum.tokens, datum.mask, strict=True)
        ],
        positions=[position for datum in datums for position in range(len(datum.tokens))],
        documents=[index for index, datum in enumerate(datums) for _ in datum.tokens],
    )


def order(job: TrainJob, examples: int, size: int) -> list[list[int]]:
    """Which examples each optimiser step of the job learns from; every epoch has its own order."""
    steps: list[list[int]] = []
    for epoch in range(job.epochs):
        places = list(range(examples))
        Random(derive_seed(job.seed, "epoch", epoch)).shuffle(places)
        steps += [places[start : start + size] for start in range(0, examples, size)]
    return steps


def consumed(examples: Sequence[Example], steps: Sequence[Sequence[int]]) -> Callable[[int], int]:
    """Datums seen after so many steps."""
    return lambda count: sum(examples[place].datums for chosen in steps[:count] for place in chosen)


class Steps(Dataset[list[dict[str, Any]]]):
    """The steps that are left, each as the passes that it is computed in.

    A pass has examples of one weight and, where one example alone isn't longer, at most so many tokens with padding.
    """

    def __init__(self, examples: Sequence[Example], steps: Sequence[Sequence[int]], start: int, tokens: int) -> None:
        self._examples, self._steps, self._tokens = examples, steps[start:], tokens

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        chosen = [self._examples[place] for place in self._steps[index]]
        mass = sum(example.mass for example in chosen)
        return [
            {**_tensors(part), "share": sum(example.mass for example in part) / mass}
            for part in _parts(chosen, self._tokens)
        ]

    def loader(self) -> DataLoader[Any]:
        """A loader of single steps."""
        return DataLoader(self, batch_size=None, shuffle=False)


def summed(step: Callable[[dict[str, Any]], torch.Tensor], passes: Sequence[dict[str, Any]]) -> torch.Tensor:
    """Take the passes of one optimiser step, each of which adds its gradient, and return the step's loss."""
    losses = [step(each) for each in passes]
    return torch.stack(losses).sum()


def check_tokens(datums: Sequence[Datum], vocabulary: int) -> None:
    """Refuse tokens that the base model doesn't have.

    Raises:
        ConfigurationError: there is one.
    """
    for datum in datums:
        if max(datum.tokens) >= vocabulary or min(datum.tokens) < 0:
            raise ConfigurationError(
                f"A datum of group {datum.group_id!r} has token id {max(datum.tokens)}, the base model {vocabulary} "
                "tokens. The rollouts were sampled from another model."
            )


def _parts(examples: Sequence[Example], tokens: int) -> list[list[Example]]:
    parts: list[list[Example]] = []
    longest = 0
    for example in sorted(examples, key=lambda each: (each.weight, _length(each))):
        longest = max(longest, _length(example))
        last = parts[-1] if parts else None
        rows = (len(last) + 1) * len(example.rows) if last else 0
        if last is None or last[0].weight != example.weight or rows * longest > tokens:
            longest = _length(example)
            parts.append([example])
        else:
            last.append(example)
    return parts


def _length(example: Example) -> int:
    return max(len(each.tokens) for each in example.rows)


def _tensors(part: Sequence[Example]) -> dict[str, Any]:
    """Rows padded on the right: first every example's first row, then every example's second."""
    rows = [example.rows[side] for side in range(len(part[0].rows)) for example in part]
    longest = max(len(each.tokens) for each in rows)

    def padded(lists: Sequence[list[int]], value: int) -> torch.Tensor:
        return torch.tensor([[*each, *[value] * (longest - len(each))] for each in lists])

    documents = padded([each.documents for each in rows], -1)
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    labels = padded([each.labels for each in rows], IGNORED)
    return {
        "input_ids": padded([each.tokens for each in rows], 0),
        "labels": labels,
        "position_ids": padded([each.positions for each in rows], 0),
        # padding looks at padding, since a row of a mask that allows nothing has no softmax
        "attention_mask": (documents[:, :, None] == documents[:, None, :])[:, None] & causal,
    }
