"""The plan of a campaign: its figures against arithmetic done by hand, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pawl.cli.main import app
from pawl.cli.train import campaign_rules
from pawl.core import ConfigurationError
from pawl.nodes.state import CampaignRules
from pawl.training.plan import PlanConfig, make_plan, read_plan
from pawl.training.shapes import ModelShape

CONFIGS = Path(__file__).parent.parent / "configs"
LARGE, SMALL, DENSE = (CONFIGS / f"{name}.yaml" for name in ("gpt-oss-120b", "gpt-oss-20b", "qwen2.5-7b"))


def shape(path: Path) -> ModelShape:
    return read_plan(path).model


def changed(path: Path, **sections: dict[str, Any]) -> PlanConfig:
    """A config with some fields of its sections changed."""
    content = yaml.safe_load(path.read_text())
    for name, fields in sections.items():
        content[name] |= fields
    return PlanConfig.model_validate(content)


def pawl(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", "plan", *arguments])
    return result.exit_code, result.output


# --- parameters


@pytest.mark.parametrize(
    ("path", "total", "active"),
    [(LARGE, 116.83e9, 5.13e9), (SMALL, 20.91e9, 3.61e9), (DENSE, 7_615_616_512, 7.07e9)],
)
def test_parameters_are_those_that_the_models_makers_state(path: Path, total: float, active: float) -> None:
    assert shape(path).parameters == pytest.approx(total, rel=3e-4)
    assert shape(path).active == pytest.approx(active, rel=1e-3)


def test_gpt_oss_120b_in_bfloat16_is_234_gb() -> None:
    assert round(2 * shape(LARGE).parameters / 1e9) == 234


def test_attention_lora_of_gpt_oss_120b_is_746496_parameters_a_rank() -> None:
    """Query and output: 2880 + 64 x 64 each; key and value: 2880 + 8 x 64 each; 36 layers."""
    by_hand = 36 * (2 * (2880 + 4096) + 2 * (2880 + 512))
    assert shape(LARGE).attention_lora(rank=1) == by_hand == 746_496
    plan = make_plan(read_plan(LARGE))
    assert plan.variant.adapter_parameters == 32 * 746_496
    assert round(plan.variant.adapter_bytes / 1e6) == 48


def test_experts_of_gpt_oss_120b_are_66_million_parameters_a_rank() -> None:
    """Gate and up in one map: 2880 + 5760; down: 2880 + 2880; 128 experts, 36 layers."""
    by_hand = 36 * 128 * ((2880 + 5760) + (2880 + 2880))
    assert shape(LARGE).mlp_lora(rank=1, layers=36) == by_hand == 66_355_200
    experts = make_plan(read_plan(LARGE)).options[-1]
    assert experts.adapter_parameters == 32 * (66_355_200 + 746_496)
    assert experts.adapter_bytes / 1e9 == pytest.approx(4.29, abs=0.01)
    assert experts.adapter_parameters * 16 / 1e9 == pytest.approx(34.4, abs=0.1)


def test_all_linear_lora_of_a_dense_7b_is_2_5_million_parameters_a_rank() -> None:
    """Attention: 2 x (3584 + 3584) + 2 x (3584 + 512); gate, up and down: 3 x (3584 + 18944); 28 layers."""
    by_hand = 28 * (2 * 7168 + 2 * 4096 + 3 * 22528)
    assert shape(DENSE).attention_lora(1) + shape(DENSE).mlp_lora(1, 28) == by_hand == 2_523_136
    assert make_plan(read_plan(DENSE)).variant.adapter_parameters == 32 * by_hand


@pytest.mark.parametrize("path", [LARGE, SMALL])
def test_served_size_is_experts_at_4_25_bits_and_the_rest_in_bfloat16(path: Path) -> None:
    model = shape(path)
    experts = model.layers * model.experts * (3 * model.hidden * model.ffn)
    by_hand = experts * 4.25 / 8 + (model.parameters - experts) * 2
    assert model.served_gb == pytest.approx(by_hand / 1e9, rel=0.01)


# --- memory, time, money


def test_a_tied_model_has_one_embedding() -> None:
    model = shape(DENSE)
    tied = model.model_copy(update={"tied": True})
    assert model.parameters - tied.parameters == 152_064 * 3584


def test_memory_of_a_training_device_by_hand() -> None:
    parts = make_plan(read_plan(LARGE)).variant.training.parts
    assert parts["weights, bfloat16"] == 2 * (9 * shape(LARGE).layer + 201_088 * 2880)
    assert 4 * parts["weights, bfloat16"] / 1e9 == pytest.approx(233.66 + 2 * 1.158, abs=0.01)  # of two ends, four
    assert parts["adapter, gradients, Adam"] == 20 * 32 * 746_496 / 4
    assert parts["hidden states at each layer"] == 2 * 16_384 * 2880 * 9
    assert parts["masks and a kernel's copies"] == 8 * 16_384**2
    assert parts["logits and their gradients"] == 24 * 512 * 201_088


def test_layers_that_are_not_run_again_are_all_held() -> None:
    again, kept = (make_plan(changed(SMALL, job={"recompute": value})).variant.training for value in (True, False))
    name = "activations and gradients"
    assert kept.parts[name] == 24 * again.parts[name]
    assert again.fits
    assert not kept.fits


def test_the_cache_of_a_replica_by_hand() -> None:
    """A token's keys and values: 2 x 8 heads x 64 x 2 bytes x 36 layers = 73,728 bytes."""
    variant = make_plan(read_plan(LARGE)).variant
    assert shape(LARGE).kv_bytes == 73_728
    left = 2 * (0.9 * 80e9 - 65.3e9 / 2 - 4 * 2 * 32 * 746_496 - 5e9)
    assert variant.cache_tokens == int(left / 73_728)


def test_the_server_holds_two_adapters_more_than_the_staleness() -> None:
    assert make_plan(changed(LARGE, server={"staleness": 5})).variant.slots == 7


def test_tokens_hours_and_dollars_by_hand() -> None:
    plan = make_plan(read_plan(LARGE))
    learned = 50 * 8 * 64
    raced = 50 * (8 * 64 + 2 * (28 + 8 + 4 + 4 + 4))
    assert plan.trained_tokens == learned * 12_000 == 307_200_000
    assert plan.tokens == (learned + raced) * 12_000
    assert plan.sampling_hours == pytest.approx((plan.tokens / 6000 / 3600, plan.tokens / 2500 / 3600))
    assert plan.trained_tokens / 6000 / 3600 == pytest.approx(14, abs=0.5)  # the learned rollouts alone
    assert plan.training_hours == pytest.approx(6 * 5.13e9 * 307.2e6 / (0.1 * 989e12) / 3600, rel=1e-3)
    assert plan.training_hours == pytest.approx(26.5, abs=0.5)
    low, high = plan.gpu_hours
    assert low == pytest.approx(8 * (plan.sampling_hours[0] / 4 + plan.training_hours) / 0.8)
    assert high == pytest.approx(8 * (plan.sampling_hours[1] / 4 + plan.training_hours) / 0.8)
    assert plan.dollars == pytest.approx((low * 2.69, high * 3.9492))


def test_devices_of_a_process_give_room_and_processes_give_speed() -> None:
    """Eight devices that train, as two processes of four, take half the hours that four take as one."""
    one, two = (
        make_plan(changed(LARGE, job={"processes": count}, placement={"serving": 8, "alternating": True}))
        for count in (1, 2)
    )
    assert two.variant.training == one.variant.training
    assert one.wall_hours[0] - two.wall_hours[0] == pytest.approx(one.training_hours / 2)
    assert two.training_hours == one.training_hours
    assert two.host_bytes == 2 * one.host_bytes
    spread = make_plan(changed(DENSE, job={"devices": 2}, placement={"devices": 2}))
    whole = make_plan(read_plan(DENSE))
    assert spread.variant.training.used < whole.variant.training.used
    assert spread.gpu_hours == pytest.approx([2 * hours for hours in whole.gpu_hours]), "one of the two waits"


def test_replayed_rollouts_and_epochs_are_trained_on_and_not_sampled() -> None:
    plain = make_plan(read_plan(DENSE))
    more = make_plan(changed(DENSE, campaign={"replay": 64}, job={"epochs": 2}))
    assert more.tokens == plain.tokens
    assert more.trained_tokens == 2 * (plain.trained_tokens + 20 * 64 * 6000)


# --- what fits and what doesn't


@pytest.mark.parametrize("path", [LARGE, SMALL, DENSE])
def test_every_config_fits_as_it_is(path: Path) -> None:
    code, said = pawl(str(path))
    assert code == 0
    assert "estimated" in said
    assert "RunPod" in said
    assert "2026-05-22" in said


@pytest.mark.parametrize(
    ("path", "sections", "why"),
    [
        (LARGE, {"job": {"devices": 2}}, "training takes"),
        (LARGE, {"job": {"devices": 6}}, "6 devices for training and 4 for serving: there are 8"),
        (
            LARGE,
            {"placement": {"tensor_parallel": 1}, "job": {"rank": 256}, "server": {"staleness": 30}},
            "serving takes",
        ),
        (LARGE, {"placement": {"tensor_parallel": 1}, "server": {"max_model_len": 131_072}}, "the cache holds"),
        (DENSE, {"job": {"pack_tokens": 200_000}}, "training takes"),
        (DENSE, {"server": {"memory_share": 0.2}}, "serving takes"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_in_words(
    tmp_path: Path, path: Path, sections: dict[str, Any], why: str
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(changed(path, **sections).model_dump(mode="json")))
    code, said = pawl(str(file))
    assert code == 2
    assert f"pawl: doesn't fit: {why}" in said


def test_all_experts_of_the_large_model_do_not_fit_on_half_of_the_devices_but_a_few_layers_do() -> None:
    options = {one.name: one.problems for one in make_plan(read_plan(LARGE)).options}
    assert not options["experts of 3 layers too"]
    assert "training takes" in options["experts of all layers too"][0]
    turns = changed(LARGE, job={"devices": 8}, placement={"serving": 8, "alternating": True})
    assert not make_plan(turns).options[-1].problems


def test_all_experts_of_the_large_model_do_not_fit_beside_its_weights_on_one_device() -> None:
    """Four slots of 4.29 GB beside 65.3 GB are more than nine tenths of 80 GB."""
    alone = changed(LARGE, placement={"serving": 1, "tensor_parallel": 1})
    assert any("serving takes" in problem for problem in make_plan(alone).options[-1].problems)
    assert all("the cache holds" in problem for problem in make_plan(alone).problems)


@pytest.mark.parametrize(
    ("section", "fields", "why"),
    [
        ("placement", {"tensor_parallel": 3}, "replicas of 3"),
        ("job", {"rank": 0}, "greater than or equal to 1"),
        ("job", {"colour": "red"}, "colour"),
        ("prices", None, "prices"),
        ("device", {"memory_gb": float("nan")}, "memory_gb"),
    ],
)
def test_a_config_that_is_none_is_refused_with_the_place(
    tmp_path: Path, section: str, fields: dict[str, Any] | None, why: str
) -> None:
    content = yaml.safe_load(LARGE.read_text())
    if fields is None:
        content[section] = []
    else:
        content[section] |= fields
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigurationError, match=why):
        read_plan(file)


@pytest.mark.parametrize("text", ["", "[", "name: x", "\x00"])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"plan\.yaml"):
        read_plan(file)
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_plan(tmp_path / "none.yaml")


def test_the_plan_for_programs_is_one_json_object() -> None:
    code, said = pawl(str(LARGE), "--json")
    found = json.loads(said)
    assert code == 0
    assert (found["fits"], found["basis"], found["trained_tokens"]) == (True, "estimated", 307_200_000)
    assert found["variants"][0]["adapter_parameters"] == 32 * 746_496
    assert len(found["variants"]) == 4


def test_what_the_loop_cannot_do_is_said() -> None:
    from pawl.training.base_model import ARCHITECTURES
    from pawl.training.choices import ROWS
    from pawl.training.plan import TRAINED

    assert TRAINED == ARCHITECTURES
    assert {read_plan(path).assumptions.logits_tokens for path in (LARGE, SMALL, DENSE)} == {ROWS}
    said = " ".join(make_plan(read_plan(LARGE)).missing)
    assert "one of a process's 4 devices works at a time" in said
    assert "adapters on experts are neither trained nor served" in said
    assert "not gpt_oss" not in said
    assert len(make_plan(read_plan(DENSE)).missing) == 1
    assert "- taking turns on the devices" in pawl(str(DENSE))[1]
    other = make_plan(changed(DENSE, model={"type": "gemma3"}))
    assert "not gemma3" in other.missing[0]


@pytest.mark.parametrize("path", [LARGE, SMALL, DENSE])
def test_a_config_is_the_rules_of_a_campaign(path: Path) -> None:
    rules = campaign_rules(path, attempts=2)
    read = read_plan(path)
    assert (rules.rounds, rules.attempts, rules.races.holdout) == (read.campaign.rounds, 2, 28)
    assert rules.training["rank"] == 32
    assert campaign_rules(None) == CampaignRules()


def test_rules_that_a_campaign_cannot_have_are_refused(tmp_path: Path) -> None:
    content = yaml.safe_load(DENSE.read_text())
    content["campaign"]["races"]["looks"] = 9
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigurationError, match=r"campaign\.races\.looks"):
        campaign_rules(file)
