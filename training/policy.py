# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
"""The policy as TRL's trainers take it: a whole Hugging Face model with one trainable adapter, and its optimiser.

The base is held in the precision of the passes, the adapter and the optimiser in float32. What a checkpoint holds is
named as the own loop names it, so that either goes on from an adapter of the other.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from ..core import ConfigurationError
from .adapter import AdapterSpec, load_spec, save_adapter, take_weights
from .job import TrainJob
from .learner import new_spec
from .optimiser import Optimiser
from .placement import devices_of, prepare_process, uses_bfloat16

NOT_BY_TRL = ("gpt_oss",)
"""Model types that the own loop alone trains."""


@dataclass(frozen=True)
class Policy:
    """A model with one adapter that learns."""

    model: Any
    """A `peft.PeftModel`; its adapter "default" is the one."""
    spec: AdapterSpec
    weights: dict[str, Tensor]
    """The adapter's live parameters, float32, under the names of PEFT's files, in their order."""
    vocabulary: int
    optimiser: Optimiser
    bfloat16: bool
    """Whether the passes run in bfloat16."""
    device: torch.device
    """Where TRL is to put the model."""

    def save_adapter(self, folder: Path) -> None:
        """Make a folder with the adapter."""
        save_adapter(folder, self.spec, {name: value.detach().float().cpu() for name, value in self.weights.items()})

    def save(self, folder: Path) -> None:
        """Write the adapter and the optimiser's state to a checkpoint."""
        self.save_adapter(folder / "adapter")
        self.optimiser.save(folder)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        take_weights(folder / "adapter", self.weights)
        self.optimiser.load(folder)


def load_policy(job: TrainJob) -> Policy:
    """Load the base, give it a new adapter or the one that the job goes on from, and set the process for training.

    Raises:
        ConfigurationError: no base model there, or an adapter that this job can't go on from.
    """
    if not (job.base_model_dir / "config.json").is_file():
        raise ConfigurationError(f"No base model in {job.base_model_dir}: expected a folder with config.json.")
    prepare_process(job)
    device = devices_of(job)[0]
    bfloat16 = uses_bfloat16(job.precision, device)
    config: Any = AutoConfig.from_pretrained(job.base_model_dir, local_files_only=True)
    if config.model_type in NOT_BY_TRL:
        raise ConfigurationError(
            f"A base of type {config.model_type!r} isn't trained through TRL: the masks that keep one row's sequences "
            "apart would open its sliding windows. Choose an objective with a policy gradient."
        )
    for name, value in vars(config).items():
        if "dropout" in name and isinstance(value, float):
            setattr(config, name, 0.0)  # a resumed job must repeat an unbroken one
    base: Any = AutoModelForCausalLM.from_pretrained(
        job.base_model_dir,
        config=config,
        dtype=torch.bfloat16 if bfloat16 else torch.float32,
        attn_implementation="sdpa",
        local_files_only=True,
    )
    base.name_or_path = job.base_model_name
    count: int = config.num_hidden_layers
    spec = load_spec(job.init_adapter, job, count) if job.init_adapter else new_spec(job, count)
    model: Any = get_peft_model(base, LoraConfig(**spec.peft_arguments()))
    live = {name.replace(".default.", "."): value for name, value in model.named_parameters() if value.requires_grad}
    weights: dict[str, Tensor] = dict(sorted(live.items()))
    optimiser = Optimiser([(job.learning_rate, weights)], job.max_grad_norm)
    policy = Policy(model, spec, weights, config.vocab_size, optimiser, bfloat16, device)
    if job.init_adapter:
        take_weights(job.init_adapter, weights)
    return policy
