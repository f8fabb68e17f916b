"""PPO in the job: values on the frozen base, advantages inside the job, and a head that the next job goes on from."""

import json
import math
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from pawl.core import ConfigurationError
from pawl.safety import default_sandbox
from pawl.training import PPO, Datum, JobState, LocalBackend, RunDir, TrainJob, adapter_files
from pawl.training.critic import Critic, value_loss
from pawl.training.critic_files import critic_files
from pawl.training.learner import Learner
from pawl.training.loop import train
from pawl.training.minibatches import minibatches
from pawl.training.prepared import prepare_ppo
from pawl.training.trees import pack

from .training_fixtures import adapter_bytes, make_datum, make_job, make_run, some_datums, torch_settings, trainee_dir

__all__ = ["torch_settings", "trainee_dir"]
pytestmark = pytest.mark.usefixtures("torch_settings")

FIRST, SECOND = range(100, 104), range(110, 114)


def walks(odds: dict[int, float], count: int, seed: int) -> list[Datum]:
    """Rollouts of two choices, of which each may earn a reward of its own at once."""
    draw = Random(seed)
    datums: list[Datum] = []
    for place in range(count):
        first, second = (draw.choices(list(labels), [odds[each] for each in labels])[0] for labels in (FIRST, SECOND))
        datum = make_datum([3, 4, first, 5, second], [2, 4], advantage=0.0)
        datums.append(
            datum.model_copy(
                update={
                    "allowed": [None, None, list(FIRST), None, list(SECOND)],
                    "behaviour_logprobs": [0.0, 0.0, math.log(odds[first]), 0.0, math.log(odds[second])],
                    "rewards": [0.0, 0.0, float(first == 102), 0.0, float(second == 111)],
                    "rollout_id": f"r{place}",
                }
            )
        )
    return datums


def policy(base: Path, adapter: Path | None) -> dict[int, float]:
    """Odds of every label, the second choice after the first label that is rewarded."""
    learner = Learner(make_job(base, init_adapter=adapter))
    odds: dict[int, float] = {}
    for labels, before in ((FIRST, [3, 4]), (SECOND, [3, 4, 102, 5])):
        for label in labels:
            [only] = pack([make_datum([*before, label], [len(before)], allowed=labels)], 64)
            odds[label] = math.exp(learner.decide(only, learner.trunk(only)).logprobs.tolist()[0])
    return odds


def ppo_job(base: Path, name: str = "job", objective: PPO | None = None, **changes: object) -> TrainJob:
    return make_job(base, name, objective=objective or PPO(), **changes)


def with_rewards(scale: float = 0.1) -> list[Datum]:
    return [
        each.model_copy(update={"rewards": [scale * value for value in each.advantages], "advantages": [0.0] * 10})
        for each in some_datums()
    ]


def test_each_choice_is_learned_by_what_it_earned(trainee_dir: Path, tmp_path: Path) -> None:
    adapter: Path | None = None
    critic: Path | None = None
    odds = policy(trainee_dir, None)
    before = odds[102] + odds[111]
    for turn in range(5):
        job = ppo_job(
            trainee_dir, f"t{turn}", init_adapter=adapter, init_critic=critic, learning_rate=3e-3, minibatch=16
        )
        run = make_run(tmp_path, job, walks(odds, 32, turn))
        status = train(run)
        assert status.state is JobState.SUCCEEDED
        adapter, critic = status.adapter, run.critic
        odds = policy(trainee_dir, adapter)
    assert before < 1.0
    assert odds[102] + odds[111] > before + 0.6


def test_the_head_learns_from_job_to_job_what_a_state_is_worth(trainee_dir: Path, tmp_path: Path) -> None:
    datums = [
        each.model_copy(update={"rewards": [0.0, 0.0, 0.0, 0.0, float(each.tokens[2] == 102)]})  # told by the state
        for each in walks(dict.fromkeys([*FIRST, *SECOND], 0.25), 32, 0)
    ]
    critic: Path | None = None
    for turn in range(2):
        job = ppo_job(
            trainee_dir, f"t{turn}", PPO(value_clip=0.5), init_critic=critic, learning_rate=1e-6, minibatch=16
        )
        run = make_run(tmp_path, job.model_copy(update={"epochs": 8}), datums)
        train(run)
        critic = run.critic
    assert critic is not None
    learner, head = Learner(make_job(trainee_dir)), Critic.load(critic, ppo_job(trainee_dir), 64)
    worth: dict[int, float] = {}
    for label in FIRST:
        [only] = pack([make_datum([3, 4, label, 5, 110], [4], allowed=SECOND)], 64)
        worth[label] = float(head(learner.base(only, learner.trunk(only)).states).detach())
    assert worth.pop(102) > max(worth.values()) + 0.5


def test_values_are_those_of_the_base_whatever_the_adapter_and_fresh_ones_are_the_mean_return(
    trainee_dir: Path, tmp_path: Path
) -> None:
    first = train(make_run(tmp_path, ppo_job(trainee_dir, "first"), with_rewards())).adapter
    found = []
    for adapter in (None, first):
        job = ppo_job(trainee_dir, init_adapter=adapter)
        learner = Learner(job)
        critic, prepared = prepare_ppo(learner, job, PPO(), minibatches(job, with_rewards()))
        states = torch.cat([each.targets.states for packs in prepared for each in packs if each.targets is not None])
        found.append(states)
        rewards = [sum(each.rewards or []) for each in with_rewards()]
        returns = [total * share for total in rewards for share in (1, 2 / 3, 1 / 3)]  # three equal rewards each
        assert critic(states).tolist() == pytest.approx([np.mean(returns)] * len(states), abs=1e-6)
    assert torch.equal(*found)


def test_advantages_are_estimated_over_a_whole_rollout_and_whitened_over_the_job(trainee_dir: Path) -> None:
    datums = walks(dict.fromkeys([*FIRST, *SECOND], 0.25), 12, 0)
    settings = PPO(gamma=0.9, lam=0.5)
    job = ppo_job(trainee_dir, objective=settings, minibatch=5)
    split: list[Datum] = []  # the same rollouts, the second choice as a datum of its own
    for each in datums:
        head = {name: getattr(each, name)[:3] for name in ("tokens", "mask", "behaviour_logprobs", "advantages")}
        assert each.rewards is not None
        split.append(each.model_copy(update={**head, "allowed": each.allowed[:3], "rewards": each.rewards[:3]}))
        tail = {"mask": [0, 0, 0, 0, 1], "rewards": [0.0] * 4 + each.rewards[4:], "part": 1}
        split.append(each.model_copy(update=tail))

    def advantages(given: list[Datum]) -> dict[tuple[str, bool], float]:
        _, prepared = prepare_ppo(Learner(job), job, settings, minibatches(job, given))
        decisions = [one for packs in prepared for each in packs for one in each.pack.decisions]
        return {(one.rollout, one.token >= 110): one.advantage for one in decisions}

    found = advantages(datums)
    assert advantages(split) == pytest.approx(found, abs=1e-5)
    rewards = {f"r{place}": [each.rewards[2], each.rewards[4]] for place, each in enumerate(datums) if each.rewards}
    value = np.mean([[r1 + 0.9 * r2, r2] for r1, r2 in rewards.values()])
    last = {name: r2 - value for name, (_, r2) in rewards.items()}
    plain = {(name, True): error for name, error in last.items()}
    plain |= {(name, False): r1 + 0.9 * value - value + 0.45 * last[name] for name, (r1, _) in rewards.items()}
    mean, deviation = np.mean([*plain.values()]), np.std([*plain.values()])
    assert found == pytest.approx({name: (each - mean) / deviation for name, each in plain.items()}, abs=1e-5)


def test_the_value_loss_is_clipped_as_in_the_reference_code() -> None:
    draw = np.random.default_rng(0)
    values, before, returns = draw.normal(size=(3, 200))
    near = before + np.clip(values - before, -0.2, 0.2)
    expected = 0.5 * np.maximum((values - returns) ** 2, (near - returns) ** 2)
    found = value_loss(*(torch.tensor(each) for each in (values, before, returns)), clip=0.2)
    assert found.tolist() == pytest.approx(expected.tolist())
    moved = torch.tensor([0.5], requires_grad=True)  # further than the clip, towards its return
    value_loss(moved, torch.tensor([0.0]), torch.tensor([1.0]), 0.2).sum().backward()
    assert moved.grad is not None
    assert float(moved.grad) == 0.0


def test_the_head_is_saved_beside_the_adapter_and_in_the_checkpoints(trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, ppo_job(trainee_dir), with_rewards())
    status = train(run)
    assert status.step == 9
    assert {"value_loss", "value_error", "loss", "grad_norm"} <= set(status.metrics)
    assert sorted(adapter_bytes(run)) == ["adapter_config.json", "adapter_model.safetensors"]  # what a server can load
    assert sorted(path.name for path in (run.path / "step_9" / "critic").iterdir()) == [
        "critic.json",
        "critic.safetensors",
    ]
    assert critic_files(run.path) == {path.name: path.read_bytes() for path in run.critic.iterdir()}
    config = json.loads((run.critic / "critic.json").read_text())
    assert config == {"base": "tiny-llama", "base_digest": "", "hidden_size": 64}
    again = make_run(tmp_path / "again", ppo_job(trainee_dir), with_rewards())
    train(again)
    assert critic_files(again.path) == critic_files(run.path)


@pytest.mark.slow
async def test_a_job_in_the_sandbox_goes_on_from_a_head_and_leaves_one(trainee_dir: Path, tmp_path: Path) -> None:
    head = trained_head(trainee_dir, tmp_path / "head")
    backend = LocalBackend(tmp_path / "runs", default_sandbox())
    job = ppo_job(trainee_dir, init_critic=head)
    handle = backend.submit(job, with_rewards())
    status = await backend.wait(handle)
    assert status.error is None
    assert sorted(adapter_files(status)) == ["adapter_config.json", "adapter_model.safetensors"]
    whole = make_run(tmp_path, job, with_rewards())
    train(whole)
    assert critic_files(handle.run_dir) == critic_files(whole.path)


def trained_head(trainee_dir: Path, folder: Path) -> Path:
    states = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    critic = Critic.fresh(ppo_job(trainee_dir), states, torch.arange(20.0))
    critic.save(folder)
    assert Critic.load(folder, ppo_job(trainee_dir), 64)(states).tolist() == pytest.approx([9.5] * 20)
    return folder


def test_a_head_of_another_base_or_a_damaged_one_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    head = trained_head(trainee_dir, tmp_path / "head")
    with pytest.raises(ConfigurationError, match="the job of base='another'"):
        Critic.load(head, ppo_job(trainee_dir, base_model_name="another"), 64)
    with pytest.raises(ConfigurationError, match="hidden_size=32"):
        Critic.load(head, ppo_job(trainee_dir), 32)
    (head / "critic.safetensors").write_bytes(b"garbage")
    with pytest.raises(ConfigurationError, match="can't be read"):
        Critic.load(head, ppo_job(trainee_dir), 64)
    shutil.rmtree(head)
    run = make_run(tmp_path, ppo_job(trainee_dir, init_critic=head), with_rewards())
    with pytest.raises(ConfigurationError, match="can't be read"):
        train(run)


@pytest.mark.parametrize("what", ["missing", "link", "garbage"])
def test_what_a_trainer_leaves_as_a_head_is_read_as_untrusted(what: str, trainee_dir: Path, tmp_path: Path) -> None:
    head = trained_head(trainee_dir, tmp_path / "critic")
    weights = head / "critic.safetensors"
    if what == "garbage":
        weights.write_bytes(b"garbage")
    else:
        weights.rename(tmp_path / "elsewhere")
        if what == "link":
            weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="value head"):
        critic_files(tmp_path)


def test_input_that_ppo_cannot_learn_from_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    flat = [each.model_copy(update={"rewards": [0.0] * 10}) for each in with_rewards()]
    twice = [each.model_copy(update={"rollout_id": "one"}) for each in with_rewards()]
    for name, datums, words in (
        ("none", some_datums(), "12 of 12 datums have no rewards"),
        ("flat", flat, "nothing to learn"),
        ("twice", twice, "two decisions at one place"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            train(make_run(tmp_path, ppo_job(trainee_dir, name), datums))
    run: RunDir = make_run(tmp_path, make_job(trainee_dir, "odd", init_critic=tmp_path), some_datums())
    with pytest.raises(ConfigurationError, match="has no value head"):
        train(run)
