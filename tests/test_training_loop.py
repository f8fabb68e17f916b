"""The loop: it learns, it repeats, it resumes, and it refuses what it can't learn from."""

import json
import math
from pathlib import Path
from random import Random

import pytest
import torch

from pawl.core import ConfigurationError
from pawl.training import JobState, LossSettings, RunDir, group_relative
from pawl.training.learner import Learner
from pawl.training.loop import train
from pawl.training.loss import policy_loss
from pawl.training.minibatches import minibatches
from pawl.training.rundir import Progress
from pawl.training.trees import Decision, pack

from .training_fixtures import (
    adapter_bytes,
    make_datum,
    make_job,
    make_run,
    some_datums,
    torch_settings,
    trainee_dir,
)

__all__ = ["torch_settings", "trainee_dir"]
pytestmark = pytest.mark.usefixtures("torch_settings")

LABELS = range(100, 108)
REWARDED = 105


def distribution(base: Path, adapter: Path | None) -> list[float]:
    """The policy over the bandit's labels."""
    learner = Learner(make_job(base, init_adapter=adapter))
    values = []
    for label in LABELS:
        [only] = pack([make_datum([3, 4, 5, label], [3], allowed=LABELS)], 64)
        values.append(math.exp(learner.decide(only, learner.trunk(only)).logprobs.tolist()[0]))
    return values


def test_a_bandit_with_eight_labels_is_learned(trainee_dir: Path, tmp_path: Path) -> None:
    adapter: Path | None = None
    odds = distribution(trainee_dir, None)
    assert odds[REWARDED - 100] < 0.5
    for turn in range(8):
        drawn = Random(turn).choices(list(LABELS), odds, k=32)
        rewards = [float(label == REWARDED) for label in drawn]
        datums = [
            make_datum([3, 4, 5, label], [3], allowed=LABELS, advantage=advantage, logprob=math.log(odds[label - 100]))
            for label, advantage in zip(drawn, group_relative(rewards), strict=True)
        ]
        job = make_job(trainee_dir, f"turn{turn}", init_adapter=adapter, learning_rate=3e-3, minibatch=16)
        if not any(datum.advantages[3] for datum in datums):
            continue  # all labels alike: nothing to learn from this turn
        status = train(make_run(tmp_path, job, datums))
        assert status.state is JobState.SUCCEEDED
        adapter = status.adapter
        odds = distribution(trainee_dir, adapter)
    assert odds[REWARDED - 100] > 0.8


def test_the_same_job_gives_the_same_bytes_and_another_seed_others(trainee_dir: Path, tmp_path: Path) -> None:
    bytes_of = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = make_run(tmp_path / place, make_job(trainee_dir, seed=seed), some_datums())
        train(run)
        bytes_of.append((adapter_bytes(run), (run.path / "metrics.jsonl").read_bytes()))
    assert bytes_of[0] == bytes_of[1]
    assert bytes_of[0] != bytes_of[2]


def test_bfloat16_passes_keep_float32_adapters_and_repeat(trainee_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    runs = [make_run(tmp_path / place, make_job(trainee_dir, precision="bfloat16"), some_datums()) for place in "ab"]
    for run in runs:
        train(run)
    assert adapter_bytes(runs[0]) == adapter_bytes(runs[1])
    weights = load_file(runs[0].adapter / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert any(name.endswith("lora_B.weight") and bool(value.any()) for name, value in weights.items())


@pytest.mark.parametrize("stopped_after", [1, 4])
def test_a_job_resumed_at_any_step_ends_with_the_same_bytes(
    trainee_dir: Path, tmp_path: Path, stopped_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(trainee_dir, loss={"kl": 0.05}, checkpoint_every=2)
    whole = make_run(tmp_path / "whole", job, some_datums())
    assert train(whole).step == 9
    broken = make_run(tmp_path / "broken", job, some_datums())
    written = RunDir.append_metrics

    def fail_at(self: RunDir, step: int, metrics: dict[str, float]) -> None:
        written(self, step, metrics)
        if step == stopped_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunDir, "append_metrics", fail_at)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    monkeypatch.undo()
    (broken.path / ".tmp-step_99").mkdir()  # what a death inside a checkpoint leaves behind
    with (broken.path / "checkpoints.jsonl").open("ab") as file:
        file.write(b'{"step": 7')
    train(broken)
    assert adapter_bytes(broken) == adapter_bytes(whole)
    assert (broken.path / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()


def test_the_run_dir_holds_what_its_contract_says(trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, make_job(trainee_dir, "contract"), some_datums())
    status = train(run)
    assert status == run.status()
    assert (status.state, status.step, status.total_steps) == (JobState.SUCCEEDED, 9, 9)
    assert status.usage.training_steps == 9
    assert status.usage.cpu_seconds > 0
    steps = [json.loads(line)["step"] for line in (run.path / "checkpoints.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 10))
    assert sorted(path.name for path in run.path.glob("step_*")) == ["step_8", "step_9"]  # older ones are given back
    names = sorted(str(path.relative_to(run.path / "step_9")) for path in (run.path / "step_9").rglob("*"))
    assert names == [
        "adapter",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "optimizer.json",
        "optimizer.safetensors",
        "state.json",
    ]
    progress = Progress.model_validate_json((run.path / "step_9" / "state.json").read_bytes())
    assert (progress.step, progress.consumed) == (9, 36)
    first = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[0])
    assert {"loss", "ratio", "clipped", "entropy", "behaviour_gap", "grad_norm"} <= set(first)


def test_a_group_stays_together_where_it_fits(trainee_dir: Path) -> None:
    batches = minibatches(make_job(trainee_dir, minibatch=6), some_datums())
    roots = [{each.tokens[0] for each in batch.packs} for batch in batches]
    assert sorted(map(sorted, roots)) == [[10], [11]]


def test_datums_without_advantage_cost_nothing_unless_there_is_a_kl_to_the_base(trainee_dir: Path) -> None:
    silent = make_datum([9, 9, 9, 30], [3], allowed=[30, 31], advantage=0.0, group="silent")
    datums = [*some_datums(), silent]
    assert sum(batch.datums for batch in minibatches(make_job(trainee_dir), datums)) == 12
    assert sum(batch.datums for batch in minibatches(make_job(trainee_dir, loss={"kl": 0.1}), datums)) == 13


def test_a_kl_penalty_keeps_the_policy_near_the_base(trainee_dir: Path, tmp_path: Path) -> None:
    last = {}
    for kl in (0.001, 1.0):
        run = make_run(
            tmp_path, make_job(trainee_dir, f"kl{kl}", loss={"kl": kl}, epochs=6, learning_rate=3e-3), some_datums()
        )
        last[kl] = train(run).metrics["kl"]
    assert last[1.0] < last[0.001] / 2


def decision(behaviour: float, advantage: float, weight: float = 1.0) -> Decision:
    return Decision(0, 0, behaviour, advantage, weight, 1.0, None)


def test_the_loss_is_clipped_truncated_and_weighted() -> None:
    settings = LossSettings(clip_low=0.2, clip_high=0.2, truncation=2.0)
    cases = [  # (log-ratio, advantage, expected loss, whether it still has a gradient)
        (0.0, 1.5, -1.5, True),
        (math.log(1.5), 1.0, -1.2, False),  # already likelier by more than the clip
        (math.log(0.5), 1.0, -0.5, True),
        (math.log(0.5), -1.0, 0.8, False),  # already less likely by more than the clip
        (math.log(1.5), -1.0, 1.5, True),
        (math.log(9.0), -1.0, 2.0, False),  # far off-policy: truncated
    ]
    for gap, advantage, expected, moves in cases:
        logprob = torch.tensor([-1.0 + gap], requires_grad=True)
        loss = policy_loss(logprob, [decision(-1.0, advantage, weight=3.0)], settings)
        assert float(loss.total.detach()) == pytest.approx(3 * expected, rel=1e-5)
        loss.total.backward()
        assert logprob.grad is not None
        assert bool(logprob.grad.abs() > 1e-6) is moves


def test_the_kl_term_is_the_k3_estimator() -> None:
    settings = LossSettings(kl=0.5)
    loss = policy_loss(torch.tensor([-1.0]), [decision(-1.0, 0.0)], settings, base=torch.tensor([-1.7]))
    assert float(loss.total.detach()) == pytest.approx(0.5 * (math.exp(-0.7) + 0.7 - 1))


def test_input_that_cannot_be_learned_from_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    silent = [make_datum([9, 9, 30], [2], allowed=[30, 31], advantage=0.0)]
    foreign = [make_datum([9, 9, 300], [2], allowed=[30, 300])]
    for name, datums, words in (
        ("none", [], "No datums"),
        ("silent", silent, "nothing to learn"),
        ("foreign", foreign, "token id 300"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            train(make_run(tmp_path, make_job(trainee_dir, name), datums))
    with pytest.raises(ConfigurationError, match="No base model"):
        train(make_run(tmp_path, make_job(tmp_path / "nowhere", "baseless"), some_datums()))


def test_a_checkpoint_of_another_job_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, make_job(trainee_dir), some_datums())
    train(run)
    for changed in (make_job(trainee_dir, loss={"clip_low": 0.25}), make_job(trainee_dir, base_digest="other")):
        (run.path / "job.json").write_text(changed.model_dump_json())
        with pytest.raises(ConfigurationError, match="belongs to another job"):
            train(run)
    make_run(tmp_path, make_job(trainee_dir), some_datums()[1:])
    with pytest.raises(ConfigurationError, match="belongs to another datums"):
        train(run)


def test_a_run_dir_of_another_version_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, make_job(trainee_dir), some_datums())
    text = (run.path / "job.json").read_text().replace('"schema_version":2', '"schema_version":1')
    (run.path / "job.json").write_text(text)
    with pytest.raises(ConfigurationError, match="another version of Pawl"):
        train(run)


def test_a_cancelled_job_stops_before_its_next_step_and_can_go_on(trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "stopped", make_job(trainee_dir), some_datums())
    run.cancel_request.touch()
    assert train(run).state is JobState.CANCELLED
    run.cancel_request.unlink()
    assert train(run).state is JobState.SUCCEEDED
    whole = make_run(tmp_path / "whole", make_job(trainee_dir), some_datums())
    train(whole)
    assert adapter_bytes(run) == adapter_bytes(whole)
