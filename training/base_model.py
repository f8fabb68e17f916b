# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The base model of a job as it is loaded: from its folder, on the CPU, in the precision of the passes."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.quantization_config import Mxfp4Config

from ..core import ConfigurationError
from .adapter import ATTENTION, AdapterSpec
from .job import TrainJob
from .sinks import SINKS

ARCHITECTURES = ("gpt_oss", "llama", "mistral", "qwen2", "qwen3")
"""Model types whose decoder layers are called as Llama's are."""

EXPERTS = ("gpt_oss",)
"""Those whose feed-forward maps are experts, which an adapter here leaves alone."""


def load_base(job: TrainJob, dtype: torch.dtype) -> Any:
    """Load a base that the policy-gradient loop knows. Weights in MXFP4, which can't be trained on, become plain ones.

    Raises:
        ConfigurationError: of a model type that the loop doesn't know, or quantised otherwise.
    """
    config: Any = AutoConfig.from_pretrained(job.base_model_dir, local_files_only=True)
    if config.model_type not in ARCHITECTURES:
        raise ConfigurationError(
            f"The base model is of type {config.model_type!r}: this trainer knows {', '.join(ARCHITECTURES)}."
        )
    more: dict[str, Any] = {}
    quantised: Any = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised.quant_method
        if method != "mxfp4":
            raise ConfigurationError(
                f"The base model's weights are quantised by {method}: expected plain ones, or MXFP4. Use the folder "
                "of the model that was quantised."
            )
        more["quantization_config"] = Mxfp4Config(dequantize=True)
    base: Any = AutoModelForCausalLM.from_pretrained(
        job.base_model_dir,
        dtype=dtype,
        attn_implementation=SINKS if config.model_type == "gpt_oss" else "sdpa",
        local_files_only=True,
        **more,
    )
    base.name_or_path = job.base_model_name  # PEFT would write the folder's path into the adapter
    return base


def check_modules(model_type: str, spec: AdapterSpec) -> None:
    """Refuse an adapter on experts.

    Raises:
        ConfigurationError: it is one.
    """
    odd = sorted(set(spec.modules) - set(ATTENTION))
    if model_type in EXPERTS and odd:
        raise ConfigurationError(
            f"The adapter is on {', '.join(odd)}, which are experts in a base of type {model_type!r}: they are not "
            "trained here. Set modules=attention, or go on from an adapter of that kind."
        )
