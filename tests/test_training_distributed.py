"""A job of two processes: it learns what one would, goes on where it stopped, and dies as a whole."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pawl.safety import Isolation, default_sandbox
from pawl.safety.sandbox.local import why_not
from pawl.training import PPO, Datum, JobState, LocalBackend, RunDir, TrainJob, adapter_files
from pawl.training.loop import train

from .forked_training import ForkedTrainers, trainers
from .training_fixtures import adapter_bytes, make_datum, make_job, make_run, some_datums, torch_settings, trainee_dir

__all__ = ["torch_settings", "trainee_dir", "trainers"]
pytestmark = pytest.mark.usefixtures("torch_settings")


def pair_of(base: Path, name: str, **changes: object) -> TrainJob:
    """A job of two processes whose steps have several packs each."""
    return make_job(base, name, processes=2, pack_tokens=24, loss={"kl": 0.05}, **changes)


def start(run: RunDir) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-P", "-m", "pawl.training", str(run.path)]
    return subprocess.Popen(argv, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def ranks_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The process ids of a trainer's ranks."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = [int(pid) for pid in children]
    return [pid for pid in found if b"pawl.training.rank" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def until_step(run: RunDir, step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = run.status()
        if status is not None and status.step >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"not at step {step}: {run.status()}")


def assert_close(run: RunDir, other: RunDir) -> None:
    """Equal but for the order of sums."""
    assert (run.adapter / "adapter_config.json").read_bytes() == (other.adapter / "adapter_config.json").read_bytes()
    found, wanted = (load_file(each.adapter / "adapter_model.safetensors") for each in (run, other))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-5)
    for mine, theirs in zip(*(metrics(each) for each in (run, other)), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def metrics(run: RunDir) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_learn_what_one_does(trainers: ForkedTrainers, trainee_dir: Path, tmp_path: Path) -> None:
    pair = pair_of(trainee_dir, "pair")
    both = make_run(tmp_path / "both", pair, some_datums())
    assert trainers.train_together(both, ranks=2) == 0
    alone = make_run(tmp_path / "alone", pair.model_copy(update={"processes": 1}), some_datums())
    train(alone)
    assert_close(both, alone)
    written = {path.name for path in both.path.iterdir()} - {"lock"}
    assert written == {path.name for path in alone.path.iterdir()}, "one of them writes"


@pytest.mark.slow
def test_two_processes_that_lose_one_on_the_way_end_with_what_one_process_learns(
    trainee_dir: Path, tmp_path: Path
) -> None:
    pair = pair_of(trainee_dir, "pair", epochs=6)
    broken = make_run(tmp_path / "broken", pair, some_datums())
    first = start(broken)
    until_step(broken, 3)
    ranks = ranks_of(first)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)  # rank 1: torchrun starts them in order
    assert first.wait(30) == -signal.SIGKILL, "it ends as its rank did"
    assert b"Process 1 of 2 was ended by SIGKILL" in first.communicate()[1]
    assert not [pid for pid in ranks if Path(f"/proc/{pid}").exists()]
    met = broken.last_checkpoint()
    assert met is not None
    assert 3 <= met[1].step < 18
    second = start(broken)
    assert second.wait(120) == 0, second.communicate()[1]
    alone = make_run(tmp_path / "alone", pair.model_copy(update={"processes": 1}), some_datums())
    train(alone)
    assert_close(broken, alone)
    status = broken.status()
    assert status is not None
    assert (status.state, status.step) == (JobState.SUCCEEDED, 18)


@pytest.mark.slow
def test_a_job_of_two_processes_gives_the_same_bytes_broken_or_not(trainee_dir: Path, tmp_path: Path) -> None:
    pair = pair_of(trainee_dir, "pair", epochs=6)
    whole, broken = (make_run(tmp_path / place, pair, some_datums()) for place in ("whole", "broken"))
    process = start(whole)
    assert process.wait(120) == 0, process.communicate()[1]
    for step in (2, 9):
        process = start(broken)
        until_step(broken, step)
        ranks = ranks_of(process)
        process.kill()  # the one that holds the lock: its ranks die with it
        process.wait()
        deadline = time.monotonic() + 5
        while any(Path(f"/proc/{pid}/cmdline").exists() for pid in ranks) and time.monotonic() < deadline:
            time.sleep(0.02)
    process = start(broken)
    assert process.wait(120) == 0, process.communicate()[1]
    assert adapter_bytes(broken) == adapter_bytes(whole)
    assert (broken.path / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()


def scored(datums: list[Datum]) -> list[Datum]:
    """The same rollouts with a reward at their last decision, for PPO."""
    made: list[Datum] = []
    for place, datum in enumerate(datums):
        last = max(index for index, chosen in enumerate(datum.mask) if chosen)
        rewards = [float(place % 6) if index == last else 0.0 for index in range(len(datum.tokens))]
        made.append(datum.model_copy(update={"rewards": rewards, "rollout_id": f"r{place}"}))
    return made


@pytest.mark.slow
def test_the_value_head_of_ppo_learns_alike_in_two_processes(trainee_dir: Path, tmp_path: Path) -> None:
    pair = pair_of(trainee_dir, "ppo").model_copy(update={"objective": PPO()})
    both, alone = (
        make_run(tmp_path / str(count), pair.model_copy(update={"processes": count}), scored(some_datums()))
        for count in (2, 1)
    )
    process = start(both)
    assert process.wait(120) == 0, process.communicate()[1]
    train(alone)
    assert_close(both, alone)
    heads = [load_file(next(run.critic.glob("*.safetensors"))) for run in (both, alone)]
    for name, value in heads[1].items():
        torch.testing.assert_close(heads[0][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_what_a_rank_refuses_is_told_in_its_words(trainee_dir: Path, tmp_path: Path) -> None:
    foreign = [make_datum([9, 9, 300], [2], allowed=[30, 300])]
    run = make_run(tmp_path, pair_of(trainee_dir, "foreign"), foreign)
    process = start(run)
    assert process.wait(60) == 2
    assert process.communicate()[1].decode().strip().endswith("The rollouts were sampled from another model.")
    status = run.status()
    assert status is not None
    assert status.state is JobState.FAILED
    assert str(status.error).startswith("A datum of group 'g' has token id 300")


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not(Isolation.BUBBLEWRAP)), reason=why_not(Isolation.BUBBLEWRAP))
async def test_in_the_sandbox_they_meet_on_a_loopback_of_their_own(trainee_dir: Path, tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "runs", default_sandbox(Isolation.BUBBLEWRAP))
    handle = backend.submit(pair_of(trainee_dir, "inside"), some_datums())
    status = await backend.wait(handle)
    assert status.state is JobState.SUCCEEDED, status.error
    assert sorted(adapter_files(status)) == ["adapter_config.json", "adapter_model.safetensors"]
    alone = make_run(tmp_path, pair_of(trainee_dir, "alone").model_copy(update={"processes": 1}), some_datums())
    train(alone)
    assert_close(RunDir(handle.run_dir), alone)


async def test_a_sandbox_without_a_network_of_its_own_refuses_them_in_words(trainee_dir: Path, tmp_path: Path) -> None:
    from pawl.safety.sandbox.local import LocalSandbox

    backend = LocalBackend(tmp_path / "runs", LocalSandbox(Isolation.LANDLOCK))
    status = await backend.wait(backend.submit(pair_of(trainee_dir, "landlocked"), some_datums()))
    assert status.state is JobState.FAILED
    assert "Install bubblewrap" in str(status.error)
