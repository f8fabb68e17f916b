"""Promises of the bundled agents, run as they are: in the sandbox, against a server of planted skill."""

import json
from itertools import pairwise

import pytest

from pawl.core import ArtifactStore, ModelCall, RolloutStop, ToolCall, Version
from pawl.evals import Exemplar, Mode, ScaffoldConfig
from pawl.evals.bundled import bundled_scaffold
from pawl.kernels import find_problem
from pawl.safety import default_sandbox
from pawl.serving.runner import Rollout, run_rollouts
from pawl.serving.tools import Tool, ToolResult

from .evals_fixtures import planted_server
from .model_fixtures import smollm2  # noqa: F401

FIELDS = {"fusion": ["none", "front", "back"], "front_rows": ["32", "64"], "warps": ["4", "8"]}
VARIANT = {"n": 512, "batch": 1, "dim": 128, "mask": True, "distribution": "normal", "precision": "fp16"}
PAYLOAD = {"variant": VARIANT, "fields": FIELDS, "contract": "Write custom_kernel."}


@pytest.fixture(scope="module")
def server():
    with planted_server({"b" * 64: [" B", " A"]}) as planted:
        yield planted


@pytest.fixture
def run(tmp_path, server):
    """Run the kernel agent under a configuration, once a seed; `verify` accepts what `accepts` says, and values it."""

    async def go(config, seeds=range(4), accepts=lambda output: 1.0, adapter=None, name="trimul", payload=PAYLOAD):
        async def verify(arguments):
            value = accepts(arguments["output"])
            accepted = value is not None
            reasons = [] if accepted else ["shared-memory"]
            return ToolResult({"accepted": accepted, "reasons": reasons, "value": value if accepted else -2.0})

        store = ArtifactStore(tmp_path / "artifacts")
        scaffold = store.put_tree(bundled_scaffold(name, config))
        version = Version(scaffold=scaffold, adapter=adapter, base_model="planted")
        rollouts = [Rollout(version, f"i{seed}", payload, seed, [Tool("verify", verify)]) for seed in seeds]
        return await run_rollouts(
            rollouts, store=store, endpoint=server.endpoint, sandbox=default_sandbox(), work=tmp_path / "work"
        )

    return go


def schedule_config(**more) -> ScaffoldConfig:
    return ScaffoldConfig(mode=Mode.SCHEDULE, prompt={"1_task": "Choose a fast Triton schedule."}, **more)


def calls(trajectory) -> list[ModelCall]:
    return [step for step in trajectory.steps if isinstance(step, ModelCall)]


def schedule(trajectory) -> dict:
    assert trajectory.stop is RolloutStop.ANSWERED, trajectory.error
    return json.loads(trajectory.output)["schedule"]


async def test_every_request_extends_the_former_prompt_and_answer(run):
    for trajectory in await run(schedule_config()):
        asked = calls(trajectory)
        assert len(asked) == len(FIELDS)
        for before, after in pairwise(asked):
            assert after.prompt.startswith(before.prompt + before.completion)
        labels = [call.completion for call in asked]
        chosen = schedule(trajectory)
        assert labels == [f" {'ABC'[options.index(chosen[name])]}" for name, options in FIELDS.items()]


async def test_a_whole_answer_is_one_short_sequence_of_tokens_with_one_token_a_choice(run, smollm2):  # noqa: F811
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(smollm2.path / "tokenizer.json"))
    space = find_problem("trimul").space
    fields = {field.name: list(field.options) for field in space.fields}
    (trajectory,) = await run(schedule_config(), seeds=[0], payload={**PAYLOAD, "fields": fields})
    asked = calls(trajectory)
    whole = tokenizer.encode(asked[-1].prompt + asked[-1].completion, add_special_tokens=False).ids
    for call in asked:
        prompt = tokenizer.encode(call.prompt, add_special_tokens=False).ids
        answered = tokenizer.encode(call.prompt + call.completion, add_special_tokens=False).ids
        assert len(answered) == len(prompt) + 1
        assert whole[: len(answered)] == answered
    assert len(whole) <= 120


async def test_pruned_assignments_are_never_completed_and_a_choice_of_one_asks_nobody(run):
    pruned = [{"fusion": "none"}, {"fusion": "front", "warps": "8"}]
    trajectories = await run(schedule_config(pruned=pruned), seeds=range(12))
    chosen = [schedule(trajectory) for trajectory in trajectories]
    assert {each["fusion"] for each in chosen} == {"front", "back"}
    assert all(each["warps"] == "4" for each in chosen if each["fusion"] == "front")
    for trajectory in trajectories:
        assert len(calls(trajectory)) == (2 if schedule(trajectory)["fusion"] == "front" else 3)


async def test_pruning_everything_prunes_nothing(run):
    pruned = [{"warps": "4"}, {"warps": "8"}]
    assert {schedule(each)["warps"] for each in await run(schedule_config(pruned=pruned), seeds=range(8))} == {"4", "8"}


async def test_of_several_samples_the_best_that_is_accepted_is_kept(run):
    def accepts(output):
        chosen = output["schedule"]
        return None if chosen["fusion"] == "none" else float(chosen["front_rows"])

    for trajectory in await run(schedule_config(samples=4), accepts=accepts):
        drawn = [step.arguments["output"] for step in trajectory.steps if isinstance(step, ToolCall)]
        assert len(drawn) == 4
        values = [value for value in map(accepts, drawn) if value is not None]
        assert accepts({"schedule": schedule(trajectory)}) == (max(values) if values else None)


async def test_a_rejected_answer_is_drawn_again_and_never_repeated(run):
    # This policy likes one schedule: only forbidding it makes it move.
    trajectories = await run(schedule_config(repairs=3), seeds=[0], accepts=lambda output: None, adapter="b" * 64)
    drawn = [step.arguments["output"]["schedule"] for step in trajectories[0].steps if isinstance(step, ToolCall)]
    assert len(drawn) == 4
    assert len({json.dumps(each) for each in drawn}) == 4


async def test_exemplars_and_prompt_parts_are_shown(run):
    best = {"fusion": "back", "front_rows": "64", "warps": "8"}
    exemplar = Exemplar(payload={"variant": VARIANT}, output=json.dumps({"schedule": best}), grade=1.0)
    (trajectory,) = await run(schedule_config(exemplars=[exemplar]), seeds=[0])
    prompt = calls(trajectory)[0].prompt
    assert prompt.startswith("Choose a fast Triton schedule.\n")
    assert "\nfusion: C\nfront rows: B\nwarps: B\n" in prompt


async def test_in_source_mode_rejections_are_shown_to_the_model_up_to_the_repairs(run):
    config = ScaffoldConfig(mode=Mode.SOURCE, prompt={"1_task": "Write."}, repairs=2)
    (trajectory,) = await run(config, seeds=[0], accepts=lambda output: None)
    asked = calls(trajectory)
    assert len(asked) == 3
    assert "shared-memory" in asked[1].prompt
    assert set(json.loads(trajectory.output)) == {"source"}


async def test_the_labels_agent_leaves_out_what_is_pruned(run):
    config = ScaffoldConfig(mode=Mode.SCHEDULE, prompt={"1": "Name it."}, pruned=[{"label": "F"}, {"label": "H"}])
    payload = {"context": "amber", "labels": list("ABCDEFGH")}
    trajectories = await run(config, seeds=range(6), name="labels", payload=payload)
    assert all(json.loads(each.output)["label"] in "ABCDEG" for each in trajectories)
    assert calls(trajectories[0])[0].choices == [f" {label}" for label in "ABCDEG"]
