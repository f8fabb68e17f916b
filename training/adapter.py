# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Adapter files in PEFT's format, with bytes that depend on the weights alone.

`adapter_config.json` carries no path, time or version; `adapter_model.safetensors` is float32, in the order of names.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, no_grad

from ..core import ConfigurationError, canonical_json
from .job import TrainJob

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
MLP = ("down_proj", "gate_proj", "up_proj")


class AdapterSpec(BaseModel):
    """The shape of an adapter, and the base that it belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    rank: int
    alpha: float
    modules: tuple[str, ...]
    layers: tuple[int, ...]

    def peft_arguments(self) -> dict[str, Any]:
        """Arguments of `peft.LoraConfig`; nothing in them that vLLM can't serve."""
        return {
            "base_model_name_or_path": self.base,
            "task_type": "CAUSAL_LM",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "target_modules": list(self.modules),
            "layers_to_transform": list(self.layers),
            "layers_pattern": "layers",
            "lora_dropout": 0.0,
            "bias": "none",
        }


def save_adapter(folder: Path, spec: AdapterSpec, weights: Mapping[str, Tensor]) -> None:
    """Write both files into a folder, which is created."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "inference_mode": True, **spec.peft_arguments()}
    (folder / CONFIG).write_bytes(canonical_json(config))
    tensors = {name: weights[name].contiguous() for name in sorted(weights)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Read the tensors.

    Raises:
        ConfigurationError: the file is missing or damaged.
    """
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(
            f"The adapter in {folder.name!r} can't be read: {error}. Expected {WEIGHTS} as PEFT writes it."
        ) from error


def take_weights(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Copy an adapter's weights into tensors of the same names.

    Raises:
        ConfigurationError: names or shapes are not those of this base and rank.
    """
    found = load_weights(folder)
    odd = {(name, tuple(value.shape)) for name, value in found.items()}
    odd ^= {(name, tuple(value.shape)) for name, value in into.items()}
    if odd:
        name, shape = min(odd)
        raise ConfigurationError(
            f"The adapter in {folder.name!r} doesn't fit the base model: {name} {list(shape)} is missing, surplus "
            "or of another shape. Expected an adapter of this base, with the layers and modules it names."
        )
    with no_grad():
        for name, value in found.items():
            into[name].copy_(value)


def load_spec(folder: Path, job: TrainJob, layer_count: int) -> AdapterSpec:
    """Read an adapter's shape, and refuse one that this job can't go on from.

    Raises:
        ConfigurationError: another base, rank or alpha than the job's, or a kind of adapter that can't be served.
    """
    try:
        config: Any = json.loads((folder / CONFIG).read_bytes())
        spec = AdapterSpec(
            base=config["base_model_name_or_path"],
            rank=config["r"],
            alpha=config["lora_alpha"],
            modules=tuple(sorted(config["target_modules"])),
            layers=_layers(config.get("layers_to_transform"), layer_count),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"The adapter in {folder.name!r} has no {CONFIG} that names a base, rank and modules: {error}."
        ) from error
    for what, found, wanted in (
        ("the base", spec.base, job.base_model_name),
        ("rank", spec.rank, job.rank),
        ("alpha", spec.alpha, job.alpha),
    ):
        if found != wanted:
            raise ConfigurationError(
                f"The adapter in {folder.name!r} is for {what} {found}, the job for {wanted}. "
                "Go on from an adapter of the same kind, or start a new one without init_adapter."
            )
    unusual = {"use_dora": False, "use_rslora": False, "modules_to_save": None, "bias": "none", "lora_bias": False}
    for key, plain in unusual.items():
        if (config.get(key) or plain) != plain:
            raise ConfigurationError(
                f"The adapter in {folder.name!r} has {key}={config[key]}: expected a plain LoRA, which vLLM can serve."
            )
    for key in ("rank_pattern", "alpha_pattern", "target_parameters", "trainable_token_indices", "layer_replication"):
        if config.get(key):
            raise ConfigurationError(f"The adapter in {folder.name!r} has {key}: expected a plain LoRA of one rank.")
    return spec


def _layers(layers: object, count: int) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(count))
    if isinstance(layers, int):
        return (layers,)
    return tuple(sorted(cast("list[int]", layers)))
