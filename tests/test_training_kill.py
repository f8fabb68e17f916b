"""A trainer that is killed again and again ends with the bytes of one that never was, whatever it trains for."""

import signal
from itertools import cycle
from pathlib import Path

import pytest

from pawl.training import PPO, Anchor, Entropic, GroupRelative, JobState, LossSettings
from pawl.training.objectives import PolicyGradient

from .forked_training import ForkedTrainers, trainers
from .training_fixtures import adapter_bytes, make_job, make_run, save_tiny, some_datums, trainee_dir

__all__ = ["trainee_dir", "trainers"]


@pytest.mark.parametrize(
    ("objective", "base"),
    [
        (PPO(), "llama"),
        (GroupRelative(loss=LossSettings(kl=0.1)), "llama"),
        (Entropic(loss=LossSettings(anchor=Anchor.START)), "llama"),
        (GroupRelative(), "gpt_oss"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind.value,
)
def test_a_job_killed_again_and_again_ends_with_the_same_bytes(
    objective: PolicyGradient, base: str, trainers: ForkedTrainers, trainee_dir: Path, tmp_path: Path
) -> None:
    folder = trainee_dir if base == "llama" else save_tiny(tmp_path / base, base)
    job = make_job(folder, objective=objective, modules="attention", minibatch=6, epochs=2)
    datums = [each.model_copy(update={"rewards": [0.1 * value for value in each.advantages]}) for each in some_datums()]
    whole, broken = make_run(tmp_path / "whole", job, datums), make_run(tmp_path / "broken", job, datums)
    assert trainers.train(whole) == 0
    deaths = 0
    for point in cycle((1, 5, 3, 4, 2)):  # of three in every step, and one more at PPO's end
        ended = trainers.train(broken, f"*:{point}")
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        deaths += 1
    assert deaths >= 3
    assert adapter_bytes(broken) == adapter_bytes(whole)
    for name in ("metrics.jsonl", *(["critic/critic.safetensors"] if isinstance(objective, PPO) else [])):
        assert (broken.path / name).read_bytes() == (whole.path / name).read_bytes()
    status = broken.status()
    assert status is not None
    assert (status.state, status.step) == (JobState.SUCCEEDED, 4)
