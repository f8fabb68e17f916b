# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
"""The policy as TRL's trainers take it: a whole Hugging Face model with one trainable adapter, and its optimiser.

The base is held in the precision of the passes, the adapter and the optimiser in float32. What a checkpoint holds is
named as the own loop names it, so that either goes on from an adapter of the other.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from pydantic import JsonValue
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from ..core import ConfigurationError, canonical_json
from .adapter import AdapterSpec, load_spec, load_weights, save_adapter
from .job import TrainJob
from .learner import new_spec, uses_bfloat16

BETAS = (0.9, 0.95)
EPSILON = 1e-8


@dataclass(frozen=True)
class Policy:
    """A model with one adapter that learns."""

    model: Any
    """A `peft.PeftModel`; its adapter "default" is the one."""
    spec: AdapterSpec
    weights: dict[str, Tensor]
    """The adapter's live parameters, float32, under the names of PEFT's files, in their order."""
    vocabulary: int
    optimiser: torch.optim.AdamW
    bfloat16: bool
    """Whether the passes run in bfloat16."""

    def save_adapter(self, folder: Path) -> None:
        """Make a folder with the adapter."""
        save_adapter(folder, self.spec, {name: value.detach().float().cpu() for name, value in self.weights.items()})

    def save(self, folder: Path) -> None:
        """Write the adapter and the optimiser's state to a checkpoint."""
        self.save_adapter(folder / "adapter")
        tensors: dict[str, Tensor] = {}
        steps = 0
        for name, value in self.weights.items():
            state = self.optimiser.state[value]
            tensors[f"exp_avg.{name}"] = state["exp_avg"].cpu()
            tensors[f"exp_avg_sq.{name}"] = state["exp_avg_sq"].cpu()
            steps = int(state["step"])
        save_file(tensors, folder / "optimizer.safetensors")
        described: dict[str, JsonValue] = {"name": "adamw", "betas": [*BETAS], "eps": EPSILON, "steps": steps}
        (folder / "optimizer.json").write_bytes(canonical_json(described))

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        self.take(folder / "adapter")
        tensors = load_file(folder / "optimizer.safetensors")
        steps = json.loads((folder / "optimizer.json").read_bytes())["steps"]
        for name, value in self.weights.items():
            self.optimiser.state[value] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": tensors[f"exp_avg.{name}"].to(value.device),
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(value.device),
            }

    def take(self, folder: Path) -> None:
        """Take an adapter's weights.

        Raises:
            ConfigurationError: names or shapes are not those of this base and rank.
        """
        found = load_weights(folder)
        odd = {(name, tuple(value.shape)) for name, value in found.items()}
        odd ^= {(name, tuple(value.shape)) for name, value in self.weights.items()}
        if odd:
            name, shape = min(odd)
            raise ConfigurationError(
                f"The adapter in {folder.name!r} doesn't fit the base model: {name} {list(shape)} is missing, surplus "
                "or of another shape. Expected an adapter of this base, with the layers and modules it names."
            )
        with torch.no_grad():
            for name, value in found.items():
                self.weights[name].copy_(value)


def load_policy(job: TrainJob) -> Policy:
    """Load the base, give it a new adapter or the one that the job goes on from, and set the process for training.

    Raises:
        ConfigurationError: no base model there, or an adapter that this job can't go on from.
    """
    if not (job.base_model_dir / "config.json").is_file():
        raise ConfigurationError(f"No base model in {job.base_model_dir}: expected a folder with config.json.")
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True)
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (an untyped module property)
    torch.manual_seed(job.seed)  # the adapter's initialisation is the only draw that uses it
    bfloat16 = uses_bfloat16(job.precision)
    config: Any = AutoConfig.from_pretrained(job.base_model_dir, local_files_only=True)
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
    optimiser = torch.optim.AdamW(
        list(weights.values()), lr=job.learning_rate, betas=BETAS, eps=EPSILON, weight_decay=0.0
    )
    policy = Policy(model, spec, weights, config.vocab_size, optimiser, bfloat16)
    if job.init_adapter:
        policy.take(job.init_adapter)
    return policy
