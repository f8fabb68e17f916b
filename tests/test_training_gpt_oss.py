"""gpt-oss in the trainer: sinks, windows and frozen experts give what transformers' own forward gives."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM

from pawl.core import ConfigurationError
from pawl.training import PPO, Datum, JobState
from pawl.training.adapter import save_adapter
from pawl.training.learner import Learner
from pawl.training.loop import train
from pawl.training.masks import tree_masks, windows
from pawl.training.sinks import attend
from pawl.training.trees import Pack, pack

from .test_training_learner import perturb
from .training_fixtures import adapter_bytes, make_datum, make_job, make_run, save_tiny, some_datums, torch_settings

__all__ = ["torch_settings"]
pytestmark = pytest.mark.usefixtures("torch_settings")

TYPES = ["gpt_oss", "qwen2", "qwen3"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: save_tiny(folder / name, name, layers=4) for name in TYPES}


def datums_of_a_tree() -> list[Datum]:
    """Sequences of up to 15 tokens that share prefixes, longer than the window of 4 and than each other."""
    long = [
        make_datum([9, 8, *range(30, 30 + size), 7, size], [2, 4, size + 3], advantage=size / 4) for size in (5, 11)
    ]
    return [*some_datums(), *long]


def reference(base: Path, learner: Learner, folder: Path) -> torch.nn.Module:
    """transformers' own model, with eager attention, and the learner's adapter as PEFT loads it."""
    from peft import PeftModel

    save_adapter(folder, learner.spec, learner.state())
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    return PeftModel.from_pretrained(model, folder, is_trainable=True).eval()


def logprobs(model: torch.nn.Module, datum: Datum) -> list[torch.Tensor]:
    """Of a datum's decisions, by one forward over its own tokens."""
    logits = model(torch.tensor([datum.tokens])).logits[0]
    values: list[torch.Tensor] = []
    for index, chosen in enumerate(datum.mask):
        if chosen:
            row = logits[index - 1] / datum.temperature
            allowed = datum.allowed[index] or range(len(row))
            values.append(row[datum.tokens[index]] - row[list(allowed)].logsumexp(0))
    return values


def weighed(learner: Learner, packs: Sequence[Pack]) -> torch.Tensor:
    """A sum over the decisions, by their advantages, whose gradients tell them apart."""
    return torch.stack(
        [
            (
                learner.decide(each, learner.trunk(each)).logprobs
                * torch.tensor([one.advantage for one in each.decisions])
            ).sum()
            for each in packs
        ]
    ).sum()


@pytest.mark.parametrize("model_type", TYPES)
def test_a_packed_tree_gives_the_log_probabilities_and_gradients_of_plain_forwards(
    bases: dict[str, Path], tmp_path: Path, model_type: str
) -> None:
    job = make_job(bases[model_type], modules="attention", layers=3)
    learner = Learner(job)
    perturb(learner)
    model = reference(bases[model_type], learner, tmp_path / "adapter")
    datums = datums_of_a_tree()
    [together] = pack(datums, 512)
    assert len(together.tokens) <= sum(len(datum.tokens) - 1 for datum in datums) / 2, "they share prefixes"
    for datum in datums:
        [alone] = pack([datum], 512)
        found = learner.decide(alone, learner.trunk(alone)).logprobs
        assert found.tolist() == pytest.approx([value.item() for value in logprobs(model, datum)], abs=1e-4)
    values = learner.decide(together, learner.trunk(together)).logprobs
    wanted = sorted(value.item() for datum in datums for value in logprobs(model, datum))
    assert sorted(values.tolist()) == pytest.approx(wanted, abs=1e-4)
    weighed(learner, [together]).backward()
    learner.collect_gradients()
    sums = [
        value * advantage
        for datum in datums
        for value, advantage in zip(
            logprobs(model, datum),
            [each for each, chosen in zip(datum.advantages, datum.mask, strict=True) if chosen],
            strict=True,
        )
    ]
    torch.stack(sums).sum().backward()
    plain = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
    assert set(plain) == set(learner.masters)
    for name, master in learner.masters.items():
        assert master.grad is not None
        assert plain[name] is not None
        torch.testing.assert_close(master.grad, plain[name], rtol=1e-3, atol=1e-4 * float(plain[name].abs().max()))


def test_a_window_is_counted_along_the_tree(bases: dict[str, Path]) -> None:
    """Two branches of three tokens on a stem of four: the last token of either sees its branch and one of the stem."""
    stem = [1, 2, 3, 4]
    [tree] = pack([make_datum([*stem, *branch, 99], [7]) for branch in ((5, 6, 7), (8, 9, 10))], 64)
    learner = Learner(make_job(bases["gpt_oss"], modules="attention"))
    looks = windows(learner.model.config)
    assert looks == [4, None, 4, None]
    masks = tree_masks(tree, looks, torch.float32)
    end = tree.tokens.index(10)
    seen = {
        look: {tree.tokens[place] for place in range(10) if masks[look][0, 0, end, place] == 0} for look in (4, None)
    }
    assert seen == {4: {4, 8, 9, 10}, None: {1, 2, 3, 4, 8, 9, 10}}
    short = tree_masks(tree, [7, None], torch.float32)
    assert short[7] is short[None], "nothing is further away than the window"


def test_sinks_as_a_key_are_sinks_in_the_softmax() -> None:
    """Against the definition in float64, with shared key heads."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    query, key, value, sinks = draw(1, 4, 6, 16), draw(1, 2, 6, 16), draw(1, 2, 6, 16), draw(4)
    mask = torch.zeros(1, 1, 6, 6, dtype=torch.float64).masked_fill(~torch.ones(6, 6).tril().bool(), float("-inf"))

    class Layer:
        num_key_value_groups = 2

    found, _ = attend(Layer(), query, key, value, mask, scaling=0.25, s_aux=sinks)
    keys, values = (each.repeat_interleave(2, 1) for each in (key, value))
    scores = query @ keys.transpose(2, 3) * 0.25 + mask
    weights = torch.cat([scores, sinks[None, :, None, None].expand(1, 4, 6, 1)], 3).softmax(3)[..., :-1]
    torch.testing.assert_close(found, (weights @ values).transpose(1, 2))
    without = scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=0.25).transpose(1, 2)
    assert float((found - without).abs().max()) > 0.01


@pytest.mark.parametrize("objective", ["group_relative", PPO()], ids=["group_relative", "ppo"])
def test_a_job_trains_and_gives_the_same_bytes_again(bases: dict[str, Path], tmp_path: Path, objective: object) -> None:
    job = make_job(bases["gpt_oss"], modules="attention", objective=objective, minibatch=6, epochs=2)
    datums = [each.model_copy(update={"rewards": [0.1 * value for value in each.advantages]}) for each in some_datums()]
    once, again = (make_run(tmp_path / place, job, datums) for place in ("once", "again"))
    assert train(once).state is JobState.SUCCEEDED
    weights = load_file(once.adapter / "adapter_model.safetensors")
    assert any(float(value.abs().max()) > 0 for name, value in weights.items() if "lora_B" in name)
    assert train(again).state is JobState.SUCCEEDED
    assert adapter_bytes(again) == adapter_bytes(once)


def test_its_adapter_has_the_names_of_peft(bases: dict[str, Path], tmp_path: Path) -> None:
    learner = Learner(make_job(bases["gpt_oss"], modules="attention", layers=1))
    save_adapter(tmp_path / "adapter", learner.spec, learner.state())
    assert sorted(load_file(tmp_path / "adapter" / "adapter_model.safetensors")) == [
        f"base_model.model.model.layers.3.self_attn.{which}_proj.lora_{side}.weight"
        for which in "koqv"
        for side in "AB"
    ]
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert not config.get("target_parameters")


def test_experts_are_refused_in_words(bases: dict[str, Path]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"down_proj, gate_proj, up_proj, which are experts .* modules=attention"
    ):
        Learner(make_job(bases["gpt_oss"], modules="all"))


def test_trl_is_refused_in_words(bases: dict[str, Path]) -> None:
    from pawl.training.policy import load_policy

    with pytest.raises(ConfigurationError, match="isn't trained through TRL"):
        load_policy(make_job(bases["gpt_oss"], modules="attention", objective="best_of_n"))


FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def pack_mxfp4(base: Path, folder: Path) -> dict[str, torch.Tensor]:
    """Save a base with random experts in MXFP4, and return what they are as plain numbers.

    A block is 32 values of 4 bits (a sign, and one of eight sizes), the lower half of a byte first, with a shared
    exponent (OCP Microscaling Formats 1.0); a matrix is stored with its outputs first.
    """
    tensors, plain = load_file(base / "model.safetensors"), dict[str, torch.Tensor]()
    generator = torch.Generator().manual_seed(1)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, into, out = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (experts, out, into // 32, 16), generator=generator).to(torch.uint8)
        scales = torch.randint(122, 125, (experts, out, into // 32), generator=generator).to(torch.uint8)
        halves = torch.stack([blocks & 15, blocks >> 4], -1).flatten(-2)
        sizes = torch.tensor(FP4)[(halves & 7).long()] * torch.where(halves >= 8, -1.0, 1.0)
        values = sizes * 2.0 ** (scales.float() - 127)[..., None]
        plain[name] = values.flatten(-2).transpose(1, 2).contiguous()
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    (folder / "config.json").write_text(json.dumps(config))
    return plain


def test_weights_in_mxfp4_are_trained_on_as_the_numbers_that_they_stand_for(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    plain = pack_mxfp4(bases["gpt_oss"], tmp_path / "packed")
    learner = Learner(make_job(tmp_path / "packed", modules="attention"))
    found = dict(learner.model.base_model.model.named_parameters())
    assert len(plain) == 8
    for name, values in plain.items():
        torch.testing.assert_close(found[name].data, values, rtol=0, atol=0)
    run = make_run(tmp_path, make_job(tmp_path / "packed", modules="attention"), some_datums())
    assert train(run).state is JobState.SUCCEEDED


def test_weights_quantised_otherwise_are_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    config = json.loads((bases["gpt_oss"] / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="quantised by awq"):
        Learner(make_job(folder, modules="attention"))
