"""Promises of the runner against the real local server, over a tiny model."""

import math

import pytest

from pawl.core import ArtifactStore, ModelCall, RolloutStop
from pawl.safety import default_sandbox
from pawl.serving.runner import Rollout, run_rollouts

from .model_fixtures import smollm2, tiny_home, tiny_model_dir, tiny_server
from .test_runner import version

__all__ = ["smollm2", "tiny_home", "tiny_model_dir", "tiny_server"]

AGENT = """
from client import Policy, answer, load_item
policy, text = Policy(), load_item()["payload"]["text"]
for _ in range(4):
    text += policy.choose(text, [" A", " B", " C", " D"])
free = policy.complete(text, max_tokens=5)
said = policy.chat([{"role": "user", "content": text}], max_tokens=5, temperature=0)
answer({"text": text, "free": free, "said": said})
"""


@pytest.fixture(scope="module")
def trajectories(tiny_server, tmp_path_factory):
    import asyncio

    folder = tmp_path_factory.mktemp("runs")
    store = ArtifactStore(folder / "artifacts")
    played = version(store, AGENT).model_copy(update={"base_model": tiny_server.base_model})
    rollouts = [Rollout(version=played, item=f"i{n}", payload={"text": f"Item {n}:"}, seed=n) for n in range(8)]

    def once():
        run = run_rollouts(rollouts, store=store, endpoint=tiny_server, sandbox=default_sandbox(), work=folder)
        return asyncio.run(run)

    return once(), once()


def untimed(steps):
    """Steps without the CPU time that they took."""
    return [each.model_copy(update={"usage": each.usage.model_copy(update={"cpu_seconds": 0.0})}) for each in steps]


def test_every_token_repeats(trajectories):
    first, second = (
        [(each.output, each.stop, untimed(each.steps), each.error) for each in run] for run in trajectories
    )
    assert first == second
    assert {each.stop for each in trajectories[0]} == {RolloutStop.ANSWERED}, trajectories[0][0].error
    assert len({each.output for each in trajectories[0]}) > 1


def test_every_call_carries_what_a_trainer_needs(trajectories):
    for trajectory in trajectories[0]:
        calls = [step for step in trajectory.steps if isinstance(step, ModelCall)]
        assert len(calls) == 6
        for call in calls:
            assert len(call.token_ids) == len(call.logprobs) > 0
            assert len(call.prompt_token_ids) == call.usage.input_tokens > 0
            assert all(math.isfinite(each) and each <= 0 for each in call.logprobs)
        # A prompt that extends the former prompt and answer extends its tokens, too.
        grown = calls[0].prompt_token_ids + calls[0].token_ids
        assert calls[1].prompt_token_ids[: len(grown)] == grown
