# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportPrivateUsage=false
"""The policy as the trainer sees it: a frozen trunk, a LoRA head, and log-probabilities of decisions.

The layers below the lowest adapted one never change, so their hidden states are computed once a pack (`trunk`) and
reused over the epochs; what is above runs with gradients (`decide`). Logits are computed where a decision was made
and, for a choice, only for the rows of the vocabulary that some choice allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from ..core import ConfigurationError
from .adapter import AdapterSpec, load_spec, take_weights
from .job import Modules, Precision, TrainJob
from .trees import Decision, Pack

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
"""Model types whose decoder layers are called as Llama's are."""

ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
MLP = ("down_proj", "gate_proj", "up_proj")


@dataclass(frozen=True)
class Trunk:
    """What the frozen layers made of a pack of L tokens."""

    hidden: Tensor
    """(1, L, hidden size)"""
    mask: Tensor
    """(1, 1, L, L), 0 where a token may look at an ancestor and -inf elsewhere."""
    rotary: tuple[Tensor, Tensor]
    positions: Tensor
    """(1, L)"""


@dataclass(frozen=True)
class Decided:
    """What the policy says of a pack's D decisions."""

    logprobs: Tensor
    """(D,) float32, of the chosen tokens, under the mask and the temperature of the rollout."""
    entropies: Tensor
    """(D,) float32, nats, without gradient."""


@dataclass(frozen=True)
class Base:
    """What the base without any adapter says at a pack's D decisions."""

    logprobs: Tensor
    """(D,) float32, of the chosen tokens."""
    states: Tensor
    """(D, hidden size), normalised as the output layer takes them, in the precision of the passes."""


class Learner:
    """A base model with one trainable adapter; float32 masters, passes in the job's precision."""

    def __init__(self, job: TrainJob) -> None:
        torch.set_num_threads(job.threads)
        torch.use_deterministic_algorithms(True)
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (an untyped module property)
        torch.manual_seed(job.seed)  # the adapter's initialisation is the only draw that uses it
        self.dtype = torch.bfloat16 if uses_bfloat16(job.precision) else torch.float32
        base: Any = AutoModelForCausalLM.from_pretrained(
            job.base_model_dir, dtype=self.dtype, attn_implementation="sdpa", local_files_only=True
        )
        count: int = base.config.num_hidden_layers
        if base.config.model_type not in ARCHITECTURES:
            raise ConfigurationError(
                f"The base model is of type {base.config.model_type!r}: this trainer knows {', '.join(ARCHITECTURES)}."
            )
        base.name_or_path = job.base_model_name  # PEFT would write the folder's path into the adapter
        self.spec = load_spec(job.init_adapter, job, count) if job.init_adapter else new_spec(job, count)
        model: Any = get_peft_model(base, LoraConfig(**self.spec.peft_arguments()), autocast_adapter_dtype=False)
        model.eval()  # no dropout: a resumed job must repeat an unbroken one
        self.model = model
        self.vocabulary: int = base.config.vocab_size
        self.hidden_size: int = base.config.hidden_size
        self._decoder = base.model
        self._output: Tensor = base.get_output_embeddings().weight
        self._cut = min(self.spec.layers)
        live = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._live = dict(sorted(live.items()))
        self.masters = {name: value.detach().float().clone() for name, value in self._live.items()}
        if job.init_adapter:
            self.load(job.init_adapter)

    def trunk(self, pack: Pack) -> Trunk:
        """Run the frozen layers."""
        size = len(pack.tokens)
        ancestors = torch.zeros(size, size, dtype=torch.bool)
        for node, parent in enumerate(pack.parents):
            if parent >= 0:
                ancestors[node] = ancestors[parent]
            ancestors[node, node] = True
        mask = torch.zeros(1, 1, size, size, dtype=self.dtype).masked_fill_(~ancestors, float("-inf"))
        positions = torch.tensor([pack.depths])
        with torch.no_grad():
            hidden = self._decoder.embed_tokens(torch.tensor([pack.tokens]))
            rotary = self._decoder.rotary_emb(hidden, positions)
            trunk = Trunk(hidden, mask, rotary, positions)
            return Trunk(self._run(trunk, 0, self._cut), mask, rotary, positions)

    def decide(self, pack: Pack, trunk: Trunk) -> Decided:
        """Log-probabilities of a pack's decisions, in their order; differentiable in the adapter."""
        return self._say(pack, self._top(trunk))

    def base(self, pack: Pack, trunk: Trunk) -> Base:
        """The base without any adapter at a pack's decisions, in one pass."""
        with torch.no_grad(), self.model.disable_adapter():
            hidden = self._top(trunk)
            return Base(self._say(pack, hidden).logprobs, _at(hidden, pack.decisions))

    def base_logprobs(self, pack: Pack, trunk: Trunk) -> Tensor:
        """(D,) log-probabilities of the decisions under the base without any adapter."""
        return self.base(pack, trunk).logprobs

    def _top(self, trunk: Trunk) -> Tensor:
        """(L, hidden size): what the layers above the trunk make of it."""
        return self._decoder.norm(self._run(trunk, self._cut, len(self._decoder.layers)))[0]

    def _say(self, pack: Pack, hidden: Tensor) -> Decided:
        masked = [index for index, decision in enumerate(pack.decisions) if decision.allowed is not None]
        free = [index for index, decision in enumerate(pack.decisions) if decision.allowed is None]
        logprobs, entropies = torch.zeros(len(pack.decisions)), torch.zeros(len(pack.decisions))
        if masked:
            decisions = [pack.decisions[index] for index in masked]
            logits = _at(hidden, decisions).float() @ self._output[list(pack.rows)].float().T
            column = {row: index for index, row in enumerate(pack.rows)}
            forbidden = torch.ones(len(decisions), len(pack.rows), dtype=torch.bool)
            for line, decision in enumerate(decisions):
                forbidden[line, [column[row] for row in decision.allowed or ()]] = False
            logits = logits.masked_fill(forbidden, -1e30)  # finite, so that p log p is 0 and not NaN
            chosen = [column[decision.token] for decision in decisions]
            values, spread = _choose(logits, decisions, chosen)
            logprobs = logprobs.index_copy(0, torch.tensor(masked), values)
            entropies = entropies.index_copy(0, torch.tensor(masked), spread)
        if free:
            decisions = [pack.decisions[index] for index in free]
            logits = (_at(hidden, decisions) @ self._output.T).float()
            values, spread = _choose(logits, decisions, [decision.token for decision in decisions])
            logprobs = logprobs.index_copy(0, torch.tensor(free), values)
            entropies = entropies.index_copy(0, torch.tensor(free), spread)
        return Decided(logprobs, entropies)

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

    def _run(self, trunk: Trunk, start: int, stop: int) -> Tensor:
        hidden = trunk.hidden
        for layer in self._decoder.layers[start:stop]:
            hidden = layer(
                hidden, attention_mask=trunk.mask, position_ids=trunk.positions, position_embeddings=trunk.rotary
            )
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


def uses_bfloat16(precision: Precision) -> bool:
    """Whether the passes run in bfloat16; without native products it is slower than float32."""
    if precision is Precision.AUTO:
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return precision is Precision.BFLOAT16


def _at(hidden: Tensor, decisions: Sequence[Decision]) -> Tensor:
    return hidden.index_select(0, torch.tensor([decision.node for decision in decisions]))


def _choose(logits: Tensor, decisions: Sequence[Decision], chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Log-probability of the chosen column, and entropy, of each row at its temperature."""
    temperatures = torch.tensor([decision.temperature for decision in decisions])
    logprobs = torch.log_softmax(logits / temperatures[:, None], dim=1)
    entropies = -(logprobs.detach().exp() * logprobs.detach()).sum(1)
    return logprobs.gather(1, torch.tensor(chosen)[:, None])[:, 0], entropies
