"""Promises of the bundled agents, run as they are: in the sandbox, against a server of planted skill."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from pawl.core import ArtifactStore, ModelCall, RolloutStop, ToolCall, Version
from pawl.evals import Exemplar, Mode, ScaffoldConfig
from pawl.evals.bundled import bundled_scaffold
from pawl.kernels import find_problem
from pawl.kernels.generation import digest_source
from pawl.safety import default_sandbox
from pawl.serving.runner import Rollout, RolloutLimits, run_rollouts
from pawl.serving.session import CallLimits
from pawl.serving.tools import Tool, ToolResult

from .evals_fixtures import planted_server
from .model_fixtures import smollm2  # noqa: F401

FIELDS = {"fusion": ["none", "front", "back"], "front_rows": ["32", "64"], "warps": ["4", "8"]}
SIZES = {"n": 512, "batch": 1, "dim": 128, "hidden": 128, "mask": True}
VARIANT = {"problem": "trimul", "parameters": SIZES, "distribution": "normal", "precision": "fp16"}
PAYLOAD = {"variant": VARIANT, "fields": FIELDS, "contract": "Write custom_kernel."}
LAUNCHES = [
    {
        "kernel": "triangle",
        "programs": 64,
        "time_us": 300.0,
        "bound": "memory",
        "breakdown_us": {"memory": 300.0, "tensor": 120.5},
        "resources": {"registers": 90, "shared": 49152},
    },
    {"kernel": "finish", "programs": 8, "time_us": 100.0, "bound": "tensor", "breakdown_us": {}, "resources": {}},
]


@pytest.fixture(scope="module")
def server():
    with planted_server({"b" * 64: [" B", " A"]}) as planted:
        yield planted


@pytest.fixture
def run(tmp_path, server):
    """Run the kernel agent under a configuration, once a seed; `verify` accepts what `accepts` says, and values it."""

    async def go(
        config,
        seeds=range(4),
        accepts=lambda output: 1.0,
        adapter=None,
        name="trimul",
        payload=PAYLOAD,
        files=(),
        **limits,
    ):
        async def verify(arguments):
            value = accepts(arguments["output"])
            accepted = value is not None
            told = {"launches": LAUNCHES, "time_us": 400.0} if accepted else {"mismatch": {"missed": 3}}
            reasons = [] if accepted else ["shared-memory"]
            return ToolResult({"accepted": accepted, "reasons": reasons, "value": value if accepted else -2.0, **told})

        store = ArtifactStore(tmp_path / "artifacts")
        scaffold = store.put_tree({**bundled_scaffold(name, config), **dict(files)})
        version = Version(scaffold=scaffold, adapter=adapter, base_model="planted")
        rollouts = [Rollout(version, f"i{seed}", payload, seed, [Tool("verify", verify)]) for seed in seeds]
        return await run_rollouts(
            rollouts,
            store=store,
            endpoint=server.endpoint,
            sandbox=default_sandbox(),
            work=tmp_path / "work",
            limits=RolloutLimits(calls=CallLimits(**limits)),
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
    config = source_config(repairs=2)
    (trajectory,) = await run(config, seeds=[0], accepts=lambda output: None)
    asked = calls(trajectory)
    assert len(asked) == 3
    assert "shared-memory" in asked[1].prompt
    assert "How far off it was: missed 3" in asked[1].prompt
    assert set(json.loads(trajectory.output)) == {"source"}


def source_config(**more) -> ScaffoldConfig:
    return ScaffoldConfig(mode=Mode.SOURCE, prompt={"1_task": "Write."}, **more)


def search(improvements: int, others: int = 1) -> dict[str, bytes]:
    return {"search.json": json.dumps({"improvements": improvements, "others": others}).encode()}


def module(value: float | str) -> str:
    return f"import torch\n\n\n\ndef custom_kernel(data):\n    return {value}\n"


def value_of(output) -> float | None:
    """What a planted module returns is what it is worth; no number is a refusal."""
    found = re.search(r"return ([-0-9.]+)$", output["source"].strip())
    return float(found.group(1)) if found else None


@contextmanager
def scripted(server, *answers: str) -> Iterator[None]:
    left = list(answers)
    server.script = lambda messages: f"So:\n```python\n{left.pop(0)}```\nThat is all."
    try:
        yield
    finally:
        server.script = None


def said(call: ModelCall) -> list[str]:
    return [message["content"] for message in json.loads(call.prompt)]


async def test_of_several_starts_the_worse_half_is_dropped_and_the_best_goes_on(run, server):
    values = [0.1, 0.4, 0.2, 0.3]
    follow_ups = [0.5, 0.35, 0.6]  # of 0.4 and of 0.3; then of the better of these two lines
    with scripted(server, *map(module, values + follow_ups)):
        (trajectory,) = await run(
            source_config(samples=4), seeds=[0], accepts=value_of, files=search(improvements=3).items()
        )
    asked = [said(call) for call in calls(trajectory)]
    assert [len(each) for each in asked] == [1, 1, 1, 1, 3, 3, 3]
    gone_on_from = [value_of({"source": each[1].split("```")[1]}) for each in asked[4:]]
    assert gone_on_from == [0.4, 0.3, 0.5]
    assert json.loads(trajectory.output)["source"] == module(0.6)


async def test_a_line_without_an_accepted_answer_is_dropped_for_one_that_has_one(run, server):
    with scripted(server, module("wrong"), module(-0.5), module(0.2)):
        (trajectory,) = await run(source_config(samples=2, repairs=4), seeds=[0], accepts=value_of)
    assert value_of({"source": said(calls(trajectory)[2])[1].split("```")[1]}) == -0.5
    assert len(calls(trajectory)) == 3
    assert json.loads(trajectory.output)["source"] == module(0.2)


async def test_an_improvement_is_asked_for_with_the_breakdown_and_says_what_it_came_from(run, server):
    with scripted(server, module(0.1), module(0.2)):
        (trajectory,) = await run(source_config(), seeds=[0], accepts=value_of)
    asked = said(calls(trajectory)[1])[-1]
    assert "triangle: 300.0 us (75 %), waits for memory" in asked
    assert "memory 300.0, tensor 120.5" in asked
    assert asked.count("us by part") == 1
    assert "registers 90, shared 49152" in asked
    output = json.loads(trajectory.output)
    assert output == {"source": module(0.2), "parent": digest_source(module(0.1))}


async def test_an_improvement_that_is_worse_is_not_the_answer_and_one_that_fails_is_repaired(run, server):
    with scripted(server, module(0.4), module(0.1)):
        (trajectory,) = await run(source_config(), seeds=[0], accepts=value_of)
    assert json.loads(trajectory.output) == {"source": module(0.4)}
    with scripted(server, module(0.4), module("wrong"), module(0.9)):
        (trajectory,) = await run(source_config(repairs=1), seeds=[0], accepts=value_of)
    assert json.loads(trajectory.output)["source"] == module(0.9)


async def test_lines_begin_from_the_kernels_they_are_given_and_show_the_best_ones(run, server):
    def kernel(value: float, **more) -> dict:
        return {"digest": digest_source(module(value)), "source": module(value), "value": value, **more}

    payload = {
        **PAYLOAD,
        "starts": [kernel(0.5, launches=LAUNCHES, time_us=400.0, variant=VARIANT), kernel(0.7, launches=LAUNCHES)],
        "best": [kernel(0.7, launches=LAUNCHES), kernel(0.6)],
    }
    with scripted(server, module(0.1), module(0.8)):
        (trajectory,) = await run(
            source_config(samples=2), seeds=[0], accepts=value_of, payload=payload, files=search(0).items()
        )
    first, second = (said(call)[0] for call in calls(trajectory))
    assert first.index("Write.") < first.index("Write custom_kernel.") < first.index("n = 512")
    assert "the mask is int64 zeros and ones" in first
    assert "triangle: 300.0 us (75 %)" in first
    assert f"```python\n{module(0.5)}```" in first
    assert module(0.7) in first  # the best other one
    assert module(0.6) not in first
    assert "Develop this kernel further. It is worth 0.700" in second
    assert module(0.6) in second
    assert json.loads(trajectory.output) == {"source": module(0.8), "parent": digest_source(module(0.7))}


async def test_where_an_item_brings_no_kernels_the_scaffold_s_own_are_begun_from(run, server):
    seed = {"seed.py": module(0.0).encode(), **search(0)}
    with scripted(server, module(0.3)):
        (trajectory,) = await run(source_config(repairs=1), seeds=[0], accepts=value_of, files=seed.items())
    measured, answered = (step for step in trajectory.steps if isinstance(step, ToolCall))
    assert measured.arguments["output"] == {"source": module(0.0), "parent": digest_source(module(0.0))}
    assert "waits for memory" in said(calls(trajectory)[0])[0]  # where the seed's time goes was asked for first
    assert answered.arguments["output"]["parent"] == digest_source(module(0.0))
    exemplar = Exemplar(payload={"variant": VARIANT}, output=json.dumps({"source": module(0.9)}), grade=0.9)
    with scripted(server, module(0.3)):
        (trajectory,) = await run(
            source_config(exemplars=[exemplar], repairs=1), seeds=[0], accepts=value_of, files=seed.items()
        )
    assert json.loads(trajectory.output)["parent"] == digest_source(module(0.9))


async def test_limits_that_are_used_up_end_the_search_with_the_best_so_far(run, server):
    with scripted(server, *map(module, (0.4, 0.1, 0.9))):
        (trajectory,) = await run(source_config(samples=3, repairs=2), seeds=[0], accepts=value_of, calls=2)
    assert json.loads(trajectory.output) == {"source": module(0.4)}


@pytest.mark.parametrize(
    "answer",
    [
        f"First:\n```\nx = 1  # {'long ' * 40}\n```\nthen\n```python\n{module(0.5)}```",
        f"```py\n{module(0.5)}",  # cut off before the fence ends
        module(0.5),
    ],
)
async def test_the_module_is_found_in_the_answer(run, server, answer):
    server.script = lambda messages: answer
    try:
        (trajectory,) = await run(source_config(), seeds=[0], accepts=value_of, files=search(0).items())
    finally:
        server.script = None
    assert json.loads(trajectory.output) == {"source": module(0.5)}


async def test_the_labels_agent_leaves_out_what_is_pruned(run):
    config = ScaffoldConfig(mode=Mode.SCHEDULE, prompt={"1": "Name it."}, pruned=[{"label": "F"}, {"label": "H"}])
    payload = {"context": "amber", "labels": list("ABCDEFGH")}
    trajectories = await run(config, seeds=range(6), name="labels", payload=payload)
    assert all(json.loads(each.output)["label"] in "ABCDEG" for each in trajectories)
    assert calls(trajectories[0])[0].choices == [f" {label}" for label in "ABCDEG"]
