"""A tiny random Llama with SmolLM2's tokenizer, adapters for it, and a local server over it.

Import the fixtures by name: `from .model_fixtures import tiny_model_dir, tiny_server`.
"""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pawl.core import Home, Settings
from pawl.serving.local import ensure_local_server, stop_local_server
from pawl.serving.policy import Endpoint
from pawl.serving.weights import BaseModelFiles, base_model

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def save_tiny_model(folder: Path, tokenizer: Path, *, spread: float) -> None:
    """Write two layers of 64 with grouped-query attention; the wider their random weights, the more they prefer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=spread,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(tokenizer / name, folder / name)


@pytest.fixture(scope="session")
def smollm2() -> BaseModelFiles:
    """The real small model; fetched once, then cached outside the tests."""
    return base_model(Settings(model_dir=None))


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory, smollm2: BaseModelFiles) -> Path:
    """The tiny model with weights wide enough to prefer some tokens."""
    folder = tmp_path_factory.getbasetemp() / "shared-models" / "tiny"  # one for all modules that import this fixture
    if folder.exists():
        return folder
    save_tiny_model(folder, smollm2.path, spread=0.15)
    return folder


def make_adapter(model_dir: Path, folder: Path, seed: int, scale: float = 0.2) -> Path:
    """Save a LoRA of random weights that visibly changes the tiny model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_adapters(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> list[Path]:
    """Two adapters with different weights."""
    root = tmp_path_factory.getbasetemp() / "shared-adapters"
    folders = [root / str(seed) for seed in (1, 2)]
    return [f if f.exists() else make_adapter(tiny_model_dir, f, seed) for seed, f in enumerate(folders, 1)]


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.getbasetemp() / "shared-home")


@pytest.fixture(scope="session")
def tiny_server(tiny_home: Home, tiny_model_dir: Path) -> Iterator[Endpoint]:
    """A real server process over the tiny model; modules that import this fixture find the same one."""
    yield asyncio.run(ensure_local_server(tiny_home, Settings(model_dir=tiny_model_dir)))
    stop_local_server(tiny_home)
