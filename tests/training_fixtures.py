"""A tiny random Llama without a tokenizer, and datums for it. Import the fixtures by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pawl.training import Datum, Objective, RunDir, TrainJob, write_datums

VOCABULARY = 256
BASE = "tiny-llama"


def save_tiny(folder: Path, model_type: str = "llama", layers: int = 3) -> Path:
    """Save a random model of one of the architectures that the trainer knows."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    more = {}
    if model_type == "gpt_oss":  # a window, sinks and experts
        more = {"sliding_window": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
    config = AutoConfig.for_model(
        model_type,
        **more,
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        initializer_range=0.15,
        tie_word_embeddings=model_type != "gpt_oss",
    )
    model = AutoModelForCausalLM.from_config(config)
    for name, value in model.named_parameters():
        if name.endswith(("bias", "sinks")):  # which are made as zeros, or as next to nothing
            torch.nn.init.normal_(value.data, std=0.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trainee_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("trainee") / BASE)


@pytest.fixture
def torch_settings() -> Iterator[None]:
    """Put back what the trainer sets for its whole process."""
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def make_job(base: Path, name: str = "job", **changes: object) -> TrainJob:
    """A small job in float32, so that tolerances can be tight."""
    settings: dict[str, object] = {
        "id": name,
        "objective": Objective.GROUP_RELATIVE,
        "base_model_dir": base,
        "base_model_name": BASE,
        "rank": 8,
        "alpha": 16.0,
        "layers": 2,
        "minibatch": 4,
        "precision": "float32",
        "device": "cpu",
        "threads": 1,
    }
    loss = changes.pop("loss", None)
    if loss is not None:
        settings["objective"] = {"kind": Objective.GROUP_RELATIVE, "loss": loss}
    return TrainJob.model_validate(settings | changes)


def make_datum(
    tokens: Sequence[int],
    chosen: Sequence[int],
    *,
    allowed: Sequence[int] | None = None,
    advantage: float = 1.0,
    logprob: float = -1.0,
    temperature: float = 1.0,
    group: str = "g",
) -> Datum:
    """A datum whose tokens at the indices `chosen` are decisions."""
    mask = [int(index in chosen) for index in range(len(tokens))]
    return Datum(
        tokens=list(tokens),
        mask=mask,
        behaviour_logprobs=[logprob * bit for bit in mask],
        advantages=[advantage * bit for bit in mask],
        allowed=[sorted(allowed) if bit and allowed is not None else None for bit in mask],
        temperature=temperature,
        policy_version="v",
        group_id=group,
    )


def some_datums() -> list[Datum]:
    """Two groups of six rollouts with a shared prompt, two masked choices and a free token each."""
    datums: list[Datum] = []
    for group in (0, 1):
        prompt = [10 + group, 20, 21, 22, 23]
        for k in range(6):
            tokens = [*prompt, 40 + k % 4, 24, 50 + k % 3, 25, 60 + k]
            datum = make_datum(tokens, [5, 7, 9], allowed=range(40, 66), advantage=k - 2.5, group=f"g{group}")
            allowed = [ids if index < 9 else None for index, ids in enumerate(datum.allowed)]
            datums.append(
                datum.model_copy(update={"allowed": allowed, "behaviour_logprobs": [-3.0 * b for b in datum.mask]})
            )
    return datums


def make_run(folder: Path, job: TrainJob, datums: Sequence[Datum]) -> RunDir:
    """A run dir as a backend writes it."""
    run = RunDir(folder / job.id)
    write_datums(run.rollouts / "datums.jsonl", datums)
    (run.path / "job.json").write_text(job.model_dump_json())
    return run


def adapter_bytes(run: RunDir) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run.adapter.iterdir())}
