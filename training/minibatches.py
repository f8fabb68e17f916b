"""Minibatches: which datums an optimiser step learns from, and in which order the steps come."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ..core import derive_seed
from .aggregation import aggregate
from .datums import Datum
from .job import TrainJob
from .objectives import PPO, loss_of
from .trees import Pack, pack


@dataclass(frozen=True)
class Minibatch:
    """The datums of one optimiser step, packed."""

    packs: tuple[Pack, ...]
    """Those that have something to say; each decision's weight is its share of the loss."""
    datums: int
    """All of them."""
    divisor: float
    """What the sum of the weighted losses is divided by."""

    @property
    def weight(self) -> float:
        """Sum of the decisions' shares, which metrics are means by."""
        return sum(decision.weight for each in self.packs for decision in each.decisions)


def minibatches(job: TrainJob, datums: Sequence[Datum]) -> list[Minibatch]:
    """Split datums into steps: groups in a drawn order, whole where they fit, so that prefixes are shared.

    A rollout's datums stay together. A step takes datums until it has `job.minibatch` or more. What has advantages of 0
    alone costs no pass, where nothing but the advantages speaks: a group of such is left out, a single rollout of a
    group still counts in the step's mean.
    """
    heard = isinstance(job.objective, PPO) or loss_of(job.objective).kl > 0
    groups: dict[str, dict[str, list[Datum]]] = {}
    for place, datum in enumerate(datums):
        named = datum if datum.rollout_id else datum.model_copy(update={"rollout_id": f"#{place}"})
        groups.setdefault(datum.group_id, {}).setdefault(named.rollout_id, []).append(named)
    names = sorted(
        name
        for name, rollouts in groups.items()
        if heard or any(any(datum.advantages) for parts in rollouts.values() for datum in parts)
    )
    draw = Random(derive_seed(job.seed, "groups"))
    draw.shuffle(names)
    ordered: list[list[Datum]] = []
    for name in names:
        rollouts = list(groups[name].values())
        draw.shuffle(rollouts)
        ordered += rollouts
    steps: list[list[Datum]] = [[]]
    for rollout in ordered:
        if len(steps[-1]) >= job.minibatch:
            steps.append([])
        steps[-1] += rollout
    made = [_minibatch(job, step, heard=heard) for step in steps]
    return [each for each in made if each.packs]


def batch_at(job: TrainJob, count: int, step: int) -> int:
    """Which of `count` minibatches a step uses; every epoch has its own order."""
    epoch, place = divmod(step, count)
    order = list(range(count))
    Random(derive_seed(job.seed, "epoch", epoch)).shuffle(order)
    return order[place]


def consumed(job: TrainJob, batches: Sequence[Minibatch], steps: int) -> int:
    """Datums that so many steps have seen, counted once an epoch."""
    return sum(batches[batch_at(job, len(batches), step)].datums for step in range(steps))


def _minibatch(job: TrainJob, datums: Sequence[Datum], *, heard: bool) -> Minibatch:
    shares, divisor = aggregate(datums, loss_of(job.objective))
    speaking = [
        datum.model_copy(update={"weight": share})
        for datum, share in zip(datums, shares, strict=True)
        if heard or any(datum.advantages)
    ]
    return Minibatch(tuple(pack(speaking, job.pack_tokens)), len(datums), divisor)
