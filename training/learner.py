# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false
"""The policy as the trainer sees it: a frozen trunk, a LoRA head, and log-probabilities of decisions.

The layers below the lowest adapted one never change, so their hidden states are computed once a pack (`trunk`) and
reused over the epochs; what is above runs with gradients (`decide`). The model is where `placement` puts it; what the
learner returns is on the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .adapter import ATTENTION, MLP, AdapterSpec, load_spec, take_weights
from .base_model import check_modules, load_base
from .choices import Decided, decided, states_at
from .job import Modules, TrainJob
from .masks import tree_masks, windows
from .placement import devices_of, place, prepare_process, uses_bfloat16
from .trees import Pack


@dataclass(frozen=True)
class Trunk:
    """What the frozen layers made of a pack of L tokens."""

    hidden: Tensor
    """(1, L, hidden size)"""


@dataclass(frozen=True)
class Base:
    """What the base without any adapter says at a pack's D decisions."""

    logprobs: Tensor
    """(D,) float32, of the chosen tokens."""
    states: Tensor
    """(D, hidden size), normalised as the output layer takes them, in the precision of the passes."""


class Learner:
    """A base model with one trainable adapter; float32 masters, passes in the job's precision."""

    def __init__(self, job: TrainJob, devices: Sequence[torch.device] | None = None) -> None:
        """Load the base, and give it a new adapter or the one that the job goes on from.

        Args:
            job: the job.
            devices: over which the layers are spread; by default those that the job has.

        Raises:
            ConfigurationError: a base or an adapter that this trainer can't use, or devices that aren't there.
        """
        devices = devices_of(job) if devices is None else devices
        prepare_process(job)
        self.dtype = torch.bfloat16 if uses_bfloat16(job.precision, devices[0]) else torch.float32
        base: Any = load_base(job, self.dtype)
        count: int = base.config.num_hidden_layers
        self.spec = load_spec(job.init_adapter, job, count) if job.init_adapter else new_spec(job, count)
        check_modules(base.config.model_type, self.spec)
        model: Any = get_peft_model(base, LoraConfig(**self.spec.peft_arguments()), autocast_adapter_dtype=False)
        model.eval()  # no dropout: a resumed job must repeat an unbroken one
        self.model = model
        self.vocabulary: int = base.config.vocab_size
        self.hidden_size: int = base.config.hidden_size
        self._decoder = base.model
        self._placement = place(self._decoder, devices)  # only now: the adapter was drawn on the CPU, as everywhere
        self._output: Tensor = base.get_output_embeddings().weight.detach().to(self._placement.last)
        self._windows = windows(base.config)
        self._recompute = job.recompute
        self._cut = min(self.spec.layers)
        live = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._live = dict(sorted(live.items()))
        self.masters = {name: value.detach().float().clone() for name, value in self._live.items()}
        if job.init_adapter:
            self.load(job.init_adapter)

    def trunk(self, pack: Pack) -> Trunk:
        """Run the frozen layers."""
        with torch.no_grad():
            hidden = self._decoder.embed_tokens(torch.tensor([pack.tokens], device=self._placement.first))
            return Trunk(self._run(pack, hidden, 0, self._cut).cpu())

    def decide(self, pack: Pack, trunk: Trunk) -> Decided:
        """Log-probabilities of a pack's decisions, in their order; differentiable in the adapter."""
        return decided(pack, self._top(pack, trunk), self._output)

    def base(self, pack: Pack, trunk: Trunk) -> Base:
        """The base without any adapter at a pack's decisions, in one pass."""
        with torch.no_grad(), self.model.disable_adapter():
            hidden = self._top(pack, trunk)
            said = decided(pack, hidden, self._output)
            return Base(said.logprobs, states_at(hidden, pack.decisions).cpu())

    def base_logprobs(self, pack: Pack, trunk: Trunk) -> Tensor:
        """(D,) log-probabilities of the decisions under the base without any adapter."""
        return self.base(pack, trunk).logprobs

    def collect_gradients(self) -> None:
        """Move the gradients of the passes to the float32 masters."""
        for name, value in self._live.items():
            self.masters[name].grad = None if value.grad is None else value.grad.float()
            value.grad = None

    def publish(self) -> None:
        """Copy the masters to what the passes use."""
        with torch.no_grad():
            for name, value in self._live.items():
                value.copy_(self.masters[name])

    def state(self) -> dict[str, Tensor]:
        """The adapter's weights, float32, under the names of PEFT's files."""
        return {name.replace(".default.", "."): value for name, value in self.masters.items()}

    def load(self, folder: Path) -> None:
        """Take an adapter's weights.

        Raises:
            ConfigurationError: names or shapes are not those of this base and rank.
        """
        take_weights(folder, self.state())
        self.publish()

    def _top(self, pack: Pack, trunk: Trunk) -> Tensor:
        """(L, hidden size): what the layers above the trunk make of it."""
        hidden = self._run(pack, trunk.hidden, self._cut, len(self._decoder.layers))
        return self._decoder.norm(hidden)[0]

    def _run(self, pack: Pack, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Hidden states after some of the layers, each on its device."""
        if start == stop:
            return hidden
        masks = tree_masks(pack, self._windows[start:stop], self.dtype)
        shared: dict[str, Any] = {}
        device = None
        for index in range(start, stop):
            layer = self._decoder.layers[index]
            hidden = hidden.to(self._placement.layers[index])
            if hidden.device != device:
                device = hidden.device
                masks = {window: mask.to(device) for window, mask in masks.items()}
                positions = torch.tensor([pack.depths], device=device)
                rotary = self._decoder.rotary_emb(hidden.detach(), positions)
                shared = {"position_ids": positions, "position_embeddings": rotary}
            run = partial(layer, attention_mask=masks[self._windows[index]], **shared)
            if self._recompute and torch.is_grad_enabled():
                hidden = checkpoint(run, hidden, use_reentrant=False, preserve_rng_state=False)
            else:
                hidden = run(hidden)
        return hidden


def new_spec(job: TrainJob, count: int) -> AdapterSpec:
    """The shape of a new adapter: the last `job.layers` of `count` layers."""
    return AdapterSpec(
        base=job.base_model_name,
        rank=job.rank,
        alpha=job.alpha,
        modules=tuple(sorted(ATTENTION if job.modules is Modules.ATTENTION else ATTENTION + MLP)),
        layers=tuple(range(max(0, count - job.layers), count)),
    )
