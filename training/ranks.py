# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false
"""The processes that train one job together: which share of a step is whose, and what they add up.

    ranks = join()                              # in a process that `distributed` started; else `ALONE`
    for pack in ranks.share(packs): ...         # backward, each its own
    ranks.add_gradients(masters)                # then every one has the step's whole gradient

Each has the whole model. Data are split by packs, which are independent, so that the sum over the ranks of what their
losses say is the loss of a single process; only the order of the sums differs. Rank 0 alone writes files.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

WAIT = timedelta(minutes=30)
"""How long a rank waits for the others: for rank 0 it may be a checkpoint on a slow disk."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Ranks:
    """This process among those of its job."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, items: Sequence[_Item]) -> list[_Item]:
        """This rank's part of what is there for all; rank 0 has one wherever there is any."""
        return list(items[self.rank :: self.size])

    def agree(self, said: bool) -> bool:
        """What rank 0 says, so that all of them go the same way."""
        if self.size == 1:
            return said
        told = torch.tensor([said], dtype=torch.int64)
        dist.broadcast(told, 0)
        return bool(told.item())

    def add(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The sums over the ranks, by the names that rank 0 has; a rank without a share may have none."""
        if self.size == 1:
            return dict(numbers)
        names = self._names(sorted(numbers))
        sums = torch.tensor([numbers.get(name, 0.0) for name in names], dtype=torch.float64)
        dist.all_reduce(sums)
        return dict(zip(names, sums.tolist(), strict=True))

    def add_gradients(self, tensors: Iterable[Tensor]) -> None:
        """Put the sums over the ranks in the place of these tensors' gradients; none is 0."""
        if self.size == 1:
            return
        known = list(tensors)
        found = [(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in known]
        flat = torch.cat([each.to(found[0].device) for each in found])
        dist.all_reduce(flat)
        for each, part in zip(known, flat.split([each.numel() for each in known]), strict=True):
            each.grad = part.view_as(each).to(each.device, copy=True)

    def _names(self, own: Sequence[str]) -> list[str]:
        data = "\n".join(own).encode()
        length = torch.tensor([len(data)])
        dist.broadcast(length, 0)
        text = torch.zeros(int(length.item()), dtype=torch.uint8)
        if self.leads and data:
            text.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(text, 0)
        return bytes(text.tolist()).decode().split("\n") if len(text) else []


ALONE = Ranks()


def join(device: torch.device) -> Ranks:
    """Meet the other processes that torchrun started with this one.

    Tensors of the CPU are added by gloo, those of CUDA devices by NCCL; the latter was not exercised.

    Args:
        device: the first of this process.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=WAIT)
    return Ranks(dist.get_rank(), size)


def leave(ranks: Ranks) -> None:
    """Part from the others."""
    if ranks.size > 1:
        dist.destroy_process_group()
