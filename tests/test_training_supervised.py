"""Supervised jobs through TRL: they learn, repeat, resume with the same bytes, and keep the run dir's contract."""

import asyncio
import json
import math
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from pawl.core import ConfigurationError
from pawl.safety.sandbox import default_sandbox
from pawl.training import BestOfN, Datum, JobState, LocalBackend, Objective, Preference, RunDir, TrainJob
from pawl.training.learner import Learner
from pawl.training.loop import train as train_policy_gradient
from pawl.training.rundir import Progress
from pawl.training.supervised.select import best_datums, pair_datums
from pawl.training.supervised.train import train
from pawl.training.trees import pack

from .forked_training import ForkedTrainers, trainers
from .training_fixtures import adapter_bytes, make_datum, make_job, make_run, some_datums, torch_settings, trainee_dir

__all__ = ["torch_settings", "trainee_dir", "trainers"]
pytestmark = pytest.mark.usefixtures("torch_settings")

REWARDS = [0.0, 1.0, 5.0, 2.0, 3.0, 4.0]
OBJECTIVES = [Objective.BEST_OF_N, Objective.PREFERENCE]
each_objective = pytest.mark.parametrize("objective", OBJECTIVES)


def chosen(objective: Objective) -> list[Datum]:
    """What two groups of six rollouts teach: four of each imitated, or four pairs of each."""
    datums = some_datums()
    found: list[Datum] = []
    for group in (datums[:6], datums[6:]):
        rollouts = [[datum] for datum in group]
        if objective is Objective.BEST_OF_N:
            found += best_datums(REWARDS, rollouts, BestOfN(keep=4))
        else:
            found += pair_datums(REWARDS, rollouts, Preference(pairs=4))
    return found


def job_of(base: Path, objective: Objective | Preference, name: str = "job", **changes: object) -> TrainJob:
    """Six optimiser steps of three rollouts or pairs, each in several passes."""
    minibatch = 3 if objective is Objective.BEST_OF_N else 6
    settings: dict[str, object] = {
        "objective": objective,
        "minibatch": minibatch,
        "epochs": 2,
        "pack_tokens": 24,
        "learning_rate": 1e-3,
    }
    return make_job(base, name, **(settings | changes))


def logprob(base: Path, adapter: Path | None, datums: Sequence[Datum]) -> float:
    """Log-probability of decisions over the whole vocabulary, by the own loop's policy."""
    learner = Learner(make_job(base, init_adapter=adapter))
    free = [datum.model_copy(update={"allowed": [None for _ in datum.tokens]}) for datum in datums]
    values = [learner.decide(each, learner.trunk(each)).logprobs.sum() for each in pack(free, 512)]
    return float(torch.stack(values).sum().detach())


def metrics_of(run: RunDir) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


@each_objective
def test_a_job_killed_again_and_again_ends_with_the_same_bytes(
    objective: Objective, trainers: ForkedTrainers, trainee_dir: Path, tmp_path: Path
) -> None:
    job = job_of(trainee_dir, objective, checkpoint_every=2)
    whole, broken = (make_run(tmp_path / place, job, chosen(objective)) for place in ("whole", "broken"))
    assert trainers.train(whole) == 0
    ended = [trainers.train(broken, f"*:{point}") for point in (2, 4, 5)]
    assert ended == [-signal.SIGKILL] * 3
    met = broken.last_checkpoint()
    assert met is not None
    assert 0 < met[1].step < 6
    assert trainers.train(broken) == 0
    assert adapter_bytes(broken) == adapter_bytes(whole)
    assert (broken.path / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()


@pytest.mark.slow  # the processes above are really killed
@each_objective
def test_a_job_resumed_at_any_step_ends_with_the_same_bytes(
    objective: Objective, trainee_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(trainee_dir, objective, checkpoint_every=2)
    whole = make_run(tmp_path / "whole", job, chosen(objective))
    assert train(whole).step == 6
    broken = make_run(tmp_path / "broken", job, chosen(objective))
    written = RunDir.append_metrics

    def fail_at(self: RunDir, step: int, metrics: dict[str, float]) -> None:
        written(self, step, metrics)
        if step == 3:  # two checkpoints are there, and a step since
            raise KeyboardInterrupt

    monkeypatch.setattr(RunDir, "append_metrics", fail_at)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    monkeypatch.undo()
    train(broken)
    assert adapter_bytes(broken) == adapter_bytes(whole)
    assert (broken.path / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()


@each_objective
def test_the_run_dir_holds_what_its_contract_says(objective: Objective, trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, job_of(trainee_dir, objective), chosen(objective))
    status = train(run)
    assert status == run.status()
    assert (status.state, status.step, status.total_steps) == (JobState.SUCCEEDED, 6, 6)
    assert status.usage.training_steps == 6
    assert [json.loads(line)["step"] for line in (run.path / "checkpoints.jsonl").read_text().splitlines()] == [
        *range(1, 7)
    ]
    names = sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file())
    assert [name for name in names if name.startswith("step_6")] == [
        "step_6/adapter/adapter_config.json",
        "step_6/adapter/adapter_model.safetensors",
        "step_6/optimizer.json",
        "step_6/optimizer.safetensors",
        "step_6/state.json",
    ]
    assert [name for name in names if not name.startswith("step_")] == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "checkpoints.jsonl",
        "job.json",
        "metrics.jsonl",
        "rollouts/datums.jsonl",
        "status.json",
    ]  # nothing of TRL's own
    progress = Progress.model_validate_json((run.path / "step_6" / "state.json").read_bytes())
    assert (progress.step, progress.consumed) == (6, 2 * len(chosen(objective)))
    assert [line["step"] for line in metrics_of(run)] == [*range(6)]
    assert {"loss", "grad_norm", "mean_token_accuracy"} <= set(metrics_of(run)[0])


def test_cloning_makes_what_was_kept_likelier(trainee_dir: Path, tmp_path: Path) -> None:
    kept = chosen(Objective.BEST_OF_N)
    run = make_run(tmp_path, job_of(trainee_dir, Objective.BEST_OF_N, epochs=8, learning_rate=3e-3), kept)
    train(run)
    assert logprob(trainee_dir, run.adapter, kept) > logprob(trainee_dir, None, kept) + 10


def test_preference_moves_the_better_away_from_the_worse(trainee_dir: Path, tmp_path: Path) -> None:
    pairs = chosen(Objective.PREFERENCE)
    run = make_run(tmp_path, job_of(trainee_dir, Objective.PREFERENCE, epochs=8, learning_rate=3e-3), pairs)
    train(run)

    def margin(adapter: Path | None) -> float:
        sides = [[d for d in pairs if sum(d.advantages) * side > 0] for side in (1, -1)]
        return logprob(trainee_dir, adapter, sides[0]) - logprob(trainee_dir, adapter, sides[1])

    assert margin(run.adapter) > margin(None) + 10
    metrics = metrics_of(run)
    assert metrics[-1]["rewards.margins"] > 0


@pytest.mark.parametrize("pack_tokens", [1, 512])
def test_the_first_loss_is_the_formula_however_it_is_split(pack_tokens: int, trainee_dir: Path, tmp_path: Path) -> None:
    kept = [d.model_copy(update={"weight": 1.0 + i % 2}) for i, d in enumerate(chosen(Objective.BEST_OF_N))]
    job = job_of(trainee_dir, Objective.BEST_OF_N, "clone", minibatch=99, epochs=1, pack_tokens=pack_tokens)
    run = make_run(tmp_path, job, kept)
    train(run)
    total = sum(datum.weight * logprob(trainee_dir, None, [datum]) for datum in kept)
    assert metrics_of(run)[0]["loss"] == pytest.approx(-total / sum(d.weight * d.decisions for d in kept), rel=1e-5)


def test_only_the_tokens_that_count_are_projected_on_the_vocabulary(
    trainee_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trl.trainer.utils

    scored: list[int] = []
    function = trl.trainer.utils._ChunkedLogProbFunction
    apply = function.apply

    def recorded(hidden: torch.Tensor, *rest: object) -> object:
        scored.append(len(hidden))
        return apply(hidden, *rest)

    monkeypatch.setattr(function, "apply", recorded)
    kept = chosen(Objective.BEST_OF_N)
    train(make_run(tmp_path, job_of(trainee_dir, Objective.BEST_OF_N, epochs=1), kept))
    assert sum(scored) == sum(datum.decisions for datum in kept)


def pair(weight: float = 1.0, start: int = 0) -> list[Datum]:
    """A pair whose better side has two sequences."""
    sides = [([5, 6, 40 + start], 1.0), ([7, 8, 9, 50 + start], 1.0), ([5, 6, 60 + start], -1.0)]
    return [
        make_datum(tokens, [len(tokens) - 1], advantage=side, group=f"p{start}").model_copy(update={"weight": weight})
        for tokens, side in sides
    ]


@pytest.mark.parametrize("pack_tokens", [1, 512])
def test_the_preference_loss_is_the_formula_against_the_policy_that_the_job_starts_from(
    pack_tokens: int, trainee_dir: Path, tmp_path: Path
) -> None:
    first = make_run(tmp_path, job_of(trainee_dir, Objective.BEST_OF_N, "first"), chosen(Objective.BEST_OF_N))
    start = train(first).adapter
    data = [*pair(1.0, 0), *pair(2.0, 1), *pair(1.0, 2)]
    job = job_of(
        trainee_dir, Preference(beta=0.5), "second", epochs=2, minibatch=99, pack_tokens=pack_tokens,
        init_adapter=start, learning_rate=1e-2,
    )  # fmt: skip
    run = make_run(tmp_path, job, data)
    train(run)
    losses = [line["loss"] for line in metrics_of(run)]
    assert losses[0] == pytest.approx(math.log(2), rel=1e-5)  # the policy is the reference still

    def margin(adapter: Path | None, group: str) -> float:
        sides = [[d for d in data if d.group_id == group and sum(d.advantages) == side] for side in (1, -1)]
        return logprob(trainee_dir, adapter, sides[0]) - logprob(trainee_dir, adapter, sides[1])

    total = 0.0
    for group, weight in (("p0", 1.0), ("p1", 2.0), ("p2", 1.0)):
        gap = margin(run.path / "step_1" / "adapter", group) - margin(start, group)
        total += weight * math.log1p(math.exp(-0.5 * gap))
    assert losses[1] == pytest.approx(total / 4, rel=1e-4)
    assert losses[1] < losses[0]


def test_either_trainer_goes_on_from_an_adapter_of_the_other(trainee_dir: Path, tmp_path: Path) -> None:
    kept = chosen(Objective.BEST_OF_N)
    first = make_run(tmp_path, job_of(trainee_dir, Objective.BEST_OF_N, "first"), kept)
    train(first)
    second = make_run(tmp_path, make_job(trainee_dir, "second", init_adapter=first.adapter), some_datums())
    assert train_policy_gradient(second).state is JobState.SUCCEEDED
    third = make_run(
        tmp_path,
        job_of(trainee_dir, Objective.BEST_OF_N, "third", init_adapter=second.adapter, learning_rate=1e-9),
        kept,
    )
    train(third)
    assert {name: len(data) for name, data in adapter_bytes(third).items()} == {
        name: len(data) for name, data in adapter_bytes(second).items()
    }
    assert adapter_bytes(third)["adapter_config.json"] == adapter_bytes(second)["adapter_config.json"]
    assert logprob(trainee_dir, third.adapter, kept) == pytest.approx(
        logprob(trainee_dir, second.adapter, kept), rel=1e-4
    )


def test_bfloat16_passes_keep_float32_adapters_and_repeat(trainee_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    runs = [
        make_run(tmp_path / place, job_of(trainee_dir, objective, precision="bfloat16", epochs=1), chosen(objective))
        for objective in OBJECTIVES
        for place in (f"a{objective}", f"b{objective}")
    ]
    for run in runs:
        train(run)
    assert adapter_bytes(runs[0]) == adapter_bytes(runs[1])
    assert adapter_bytes(runs[2]) == adapter_bytes(runs[3])
    weights = load_file(runs[0].adapter / "adapter_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert any(name.endswith("lora_B.weight") and bool(value.any()) for name, value in weights.items())


def test_a_cancelled_job_stops_before_its_next_step_and_can_go_on(
    trainee_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Objective.BEST_OF_N
    run = make_run(tmp_path / "stopped", job_of(trainee_dir, objective), chosen(objective))
    run.cancel_request.touch()
    status = train(run)
    assert (status.state, status.step) == (JobState.CANCELLED, 0)
    run.cancel_request.unlink()
    written = RunDir.append_metrics

    def cancel_at(self: RunDir, step: int, metrics: dict[str, float]) -> None:
        written(self, step, metrics)
        if step == 2:
            self.cancel_request.touch()

    monkeypatch.setattr(RunDir, "append_metrics", cancel_at)
    status = train(run)
    assert (status.state, status.step) == (JobState.CANCELLED, 3)
    monkeypatch.undo()
    run.cancel_request.unlink()
    assert train(run).state is JobState.SUCCEEDED
    whole = make_run(tmp_path / "whole", job_of(trainee_dir, objective), chosen(objective))
    train(whole)
    assert adapter_bytes(run) == adapter_bytes(whole)


def test_a_checkpoint_of_another_job_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, job_of(trainee_dir, Objective.BEST_OF_N, epochs=1), chosen(Objective.BEST_OF_N))
    train(run)
    for words, changes in (("job", {"epochs": 3}), ("job", {"base_digest": "other"})):
        job = job_of(trainee_dir, Objective.BEST_OF_N, **({"epochs": 1} | changes))
        (run.path / "job.json").write_text(job.model_dump_json())
        with pytest.raises(ConfigurationError, match=f"belongs to another {words}"):
            train(run)
    make_run(tmp_path, job_of(trainee_dir, Objective.BEST_OF_N, epochs=1), chosen(Objective.BEST_OF_N)[1:])
    with pytest.raises(ConfigurationError, match="belongs to another datums"):
        train(run)


def test_input_that_cannot_be_learned_from_is_refused(trainee_dir: Path, tmp_path: Path) -> None:
    one = make_datum([9, 9, 30], [2], advantage=1.0, group="only")
    lost = one.model_copy(update={"weight": 2.0})
    worse = make_datum([9, 9, 31], [2], advantage=-1.0, group="only")
    for name, objective, datums, words in (
        ("none", Objective.BEST_OF_N, [], "Nothing to imitate among 0"),
        ("no-pair", Objective.PREFERENCE, [], "No pair to learn from"),
        ("weightless", Objective.BEST_OF_N, [one.model_copy(update={"weight": 0.0})], "Nothing to imitate"),
        ("unmarked", Objective.BEST_OF_N, some_datums(), "advantage -2.5"),
        ("unpaired", Objective.PREFERENCE, some_datums(), "advantages"),
        ("one-sided", Objective.PREFERENCE, [one], "no worse side"),
        ("unbalanced", Objective.PREFERENCE, [lost, worse], r"weights \[1.0, 2.0\]"),
        ("foreign", Objective.BEST_OF_N, [make_datum([9, 9, 300], [2])], "token id 300"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            train(make_run(tmp_path, job_of(trainee_dir, objective, name), datums))
    with pytest.raises(ValueError, match="2 processes: a supervised job"):
        job_of(trainee_dir, Objective.BEST_OF_N, processes=2)
    with pytest.raises(ConfigurationError, match="No base model"):
        train(make_run(tmp_path, job_of(tmp_path / "nowhere", Objective.BEST_OF_N, "baseless"), [one]))


@pytest.mark.slow
@each_objective
async def test_a_job_that_is_killed_in_the_sandbox_ends_with_the_same_bytes_as_an_unbroken_one(
    objective: Objective, trainee_dir: Path, tmp_path: Path
) -> None:
    job = job_of(trainee_dir, objective, epochs=8)  # 24 steps
    data = chosen(objective)
    whole = make_run(tmp_path / "whole", job, data)
    train(whole)
    backend = LocalBackend(tmp_path / "runs", default_sandbox())
    handle = backend.submit(job, data)
    listed = handle.run_dir / "checkpoints.jsonl"
    while not (listed.exists() and len(listed.read_text().splitlines()) > 3):
        assert not backend.poll(handle).state.finished
        await asyncio.sleep(0.02)
    kill_trainer(handle.run_dir)
    status = await backend.wait(handle)
    assert (status.state, handle.run_dir.joinpath("adapter").exists()) == (JobState.LOST, False)
    status = await backend.wait(backend.submit(job, data))
    assert (status.state, status.error) == (JobState.SUCCEEDED, None)
    assert adapter_bytes(RunDir(handle.run_dir)) == adapter_bytes(whole)


def kill_trainer(run_dir: Path) -> None:
    """Kill the process that has a run dir as its last argument, whatever it runs in."""
    found = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().split(b"\0")[-2:-1] == [str(run_dir).encode()]
    ]
    assert found
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
