"""Promises of the kernel task: the seed is worth nought, a schedule is worth its real kernel, a bad one the floor."""

import json
import math
from types import SimpleNamespace

import pytest
import pytest_asyncio

from pawl.core import ArtifactStore, Grade, ModelCall, RolloutStop, ToolCall, Trajectory, Version
from pawl.core.database import Database
from pawl.evals import Outcome, Race, Split, TaskEnvironment, load_task
from pawl.evals.evaluate import evaluate
from pawl.evals.races import paired_effects
from pawl.evals.showcase import ShowsBest
from pawl.evals.trimul import TriMulTask
from pawl.evals.trimul_words import first_mismatch
from pawl.kernels import H100, FailureClass, Report, Status, find_problem
from pawl.kernels.generation import digest_source
from pawl.kernels.report import Refusal
from pawl.nodes.decision import Decision, Diagnosis, Lever
from pawl.nodes.journal import round_plan, save_trajectories
from pawl.nodes.rounds import RoundRow
from pawl.nodes.state import CampaignRules, Evaluation, RaceSummary
from pawl.release import Campaigns
from pawl.safety import default_sandbox

from .evals_fixtures import planted_server

PROBLEM = find_problem("trimul")
PLAIN = {field.name: field.options[0] for field in PROBLEM.space.fields}
"""The first option of each field: the smallest tiles, the widest types."""
GREEDY = PLAIN | {"precision": "tf32", "tile": "128x256", "stages": "5"}  # more shared memory than an H100 has


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return TaskEnvironment(sandbox=default_sandbox(), cache=tmp_path_factory.mktemp("verifications"))


@pytest.fixture
async def task(environment):
    task = load_task("trimul", environment)
    yield task
    await task.close()


@pytest_asyncio.fixture(loop_scope="session")
async def warm_task(environment, verifier):
    """The task with the verifier that runs already."""
    task = load_task("trimul", environment)
    task.verifier = verifier
    return task


async def test_the_visible_split_has_sixty_four_assignments_and_sealed_ones_are_others(task):
    visible = task.items(Split.OPTIMISE, 7, 130)
    assert len({item.id for item in visible}) == 64
    assert visible[64:128] == visible[:64]
    assert visible[3:5] == task.items(Split.OPTIMISE, 7, 2, start=3)
    sealed = task.items(Split.HOLDOUT, 7, 130)
    assert len({item.id for item in sealed} | {item.id for item in visible}) == 130 + 64
    assert len({item.slice for item in sealed}) <= 4


@pytest.mark.asyncio(loop_scope="session")
async def test_the_seed_is_worth_nought_and_a_schedule_what_its_kernel_is(warm_task):
    (item,) = warm_task.items(Split.OPTIMISE, 7, 1)
    assert (await warm_task.grade(item, PROBLEM.seed_source())).value == 0.0
    as_schedule = await warm_task.grade(item, json.dumps({"schedule": PLAIN}))
    as_source = await warm_task.grade(item, json.dumps({"source": PROBLEM.render(PLAIN)}))
    assert as_schedule.valid, as_schedule.details
    assert as_schedule.estimated
    assert as_schedule.value == as_source.value
    details = as_schedule.details
    assert as_schedule.value == pytest.approx(math.log(details["seed_us"] / details["time_us"]))
    conditions = details["conditions"]
    assert "crude" in conditions
    assert len(conditions) >= 3
    perturbed = await warm_task.perturb(item, json.dumps({"schedule": PLAIN}))
    assert perturbed.value == min(conditions.values())
    assert not warm_task.cheats(item, json.dumps({"schedule": PLAIN}), as_schedule)


class OnADevice:
    """Stands for a verifier beside a GPU: what it says of every module."""

    def __init__(self, report: Report) -> None:
        self.report = report

    async def measure(self, *asked: object, accelerator: object) -> Report:
        assert accelerator is GPU
        return self.report


GPU = object()
TIMED = Report(
    status=Status.ACCEPTED, time_us=50.0, interval_us=(49.0, 51.0), floor_us=20.0, baseline_us=200.0,
    basis="measured", device="NVIDIA H200",
)  # fmt: skip


def refused(failure: FailureClass | Refusal, basis: str) -> Report:
    words = [f"{failure}: it is so"]
    return TIMED.model_copy(
        update={"status": Status.REJECTED, "failure_class": failure, "reasons": words, "time_us": None, "basis": basis}
    )


@pytest.mark.parametrize(
    ("report", "value", "estimated"),
    [
        (TIMED, math.log(4.0), False),
        (refused(Refusal.CLOCKS_DISAGREE, "measured"), -1.5, False),
        (refused(FailureClass.WRONG_RESULT, "estimated"), -1.5, False),
        (refused(FailureClass.IMPOSSIBLE, "estimated"), -1.5, True),
    ],
)
async def test_a_grade_on_a_device_is_estimated_only_where_an_estimate_decided(tmp_path, report, value, estimated):
    task = TriMulTask(TaskEnvironment(sandbox=default_sandbox(), cache=tmp_path, accelerator=GPU))
    task.verifier = OnADevice(report)
    (item,) = task.items(Split.OPTIMISE, 7, 1)
    grade = await task.grade(item, PROBLEM.seed_source())
    assert (grade.valid, grade.estimated) == (report.accepted, estimated)
    assert grade.value == pytest.approx(value)
    assert grade.details["basis"] == report.basis
    assert grade.reasons == ([] if report.accepted else [report.failure_class])
    assert "conditions" not in grade.details
    assert await task.perturb(item, PROBLEM.seed_source()) == grade
    assert not (await task.grade(item, None)).estimated
    trajectories = [
        Trajectory(version=version, item=item.id, seed=1, stop=RolloutStop.ANSWERED, grade=grade) for version in "ab"
    ]
    (effect,) = paired_effects([item], trajectories[:1], trajectories[1:], task.metric)
    assert effect.estimated == estimated


@pytest.mark.parametrize(
    ("output", "failure"),
    [
        (None, "no-output"),
        ("[1]", "bad-output"),
        ('{"schedule": {"tile": "1x1"}}', "bad-output"),
        ("I would rather not.", "syntax-error"),
    ],
)
async def test_a_bad_output_gets_the_floor_and_says_why(task, output, failure):
    (item,) = task.items(Split.OPTIMISE, 7, 1)
    grade = await task.grade(item, output)
    assert (grade.value, grade.valid) == (task.metric.worst, False)
    assert grade.details["failure_class"] == failure
    assert grade.details["words"]
    assert grade.reasons == [failure]


async def test_a_time_that_physics_forbids_and_a_module_that_reaches_out_are_cheats(task):
    (item,) = task.items(Split.OPTIMISE, 7, 1)
    fast = Grade(value=4.0, valid=True, details={"time_us": 1.0, "floor_us": 40.0})
    sly = "import ctypes\ndef custom_kernel(data): return torch.einsum('x', data)"
    codes = {cheat.code for cheat in task.cheats(item, json.dumps({"source": sly}), fast)}
    assert codes == {"below-floor", "reaches-out"}


@pytest.mark.slow
async def test_a_rejected_schedule_has_its_class_as_the_reason_and_the_tool_gives_the_words(task):
    items = task.items(Split.OPTIMISE, 7, 64)
    item = next(item for item in items if item.payload["variant"]["precision"] == "fp32")
    (verify,) = task.tools(item)
    answer = (await verify.run({"output": {"schedule": GREEDY}})).value
    grade = await task.grade(item, json.dumps({"schedule": GREEDY}))
    assert not answer["accepted"]
    assert not grade.valid
    assert answer["reasons"][0].startswith(grade.reasons[0])


@pytest.mark.slow
async def test_the_best_kernel_is_written_and_rated_against_the_seed_on_the_benchmark(task, tmp_path):
    assert isinstance(task, ShowsBest)
    (item,) = task.items(Split.OPTIMISE, 7, 1)
    output = json.dumps({"schedule": PLAIN})
    grade = await task.grade(item, output)
    trajectory = Trajectory(version="v", item=item.id, seed=1, output=output, stop=RolloutStop.ANSWERED, grade=grade)
    shown = await task.showcase([trajectory], tmp_path / "best")
    assert shown.path.read_text() == PROBLEM.render(PLAIN)
    assert shown.figures["speedup"] == shown.figures["seed_geomean_us"] / shown.figures["geomean_us"]
    assert "estimated" in shown.lines[0]
    assert await task.showcase([], tmp_path / "none") is None


GOOD = PROBLEM.render(PLAIN)
FASTER = PROBLEM.render(PLAIN | {"group": "4"})  # the same kernels, launched in another order
BROKEN = GOOD.replace(
    "    total = ", "    drifting = 0\n    for _ in range(2):\n        drifting = drifting + 0.5\n    total = ", 1
)
"""Right where it is interpreted; a compiler can't have a loop change a variable's type."""
NO_PYTHON = "def custom_kernel(data:\n"


def said(trajectory: Trajectory) -> list[list[str]]:
    prompts = [step.prompt for step in trajectory.steps if isinstance(step, ModelCall)]
    return [[message["content"] for message in json.loads(prompt)] for prompt in prompts]


def verdicts(trajectory: Trajectory) -> list[dict]:
    return [step.result for step in trajectory.steps if isinstance(step, ToolCall)]


@pytest.mark.asyncio(loop_scope="session")
async def test_a_module_is_repaired_by_the_compiler_s_words_and_the_next_round_goes_on_from_the_best(
    warm_task, tmp_path
):
    assert BROKEN != GOOD
    store = ArtifactStore(tmp_path / "artifacts")
    version = Version(scaffold=store.put_tree(warm_task.seed_scaffold(True)), base_model="planted")
    item, *others = warm_task.items(Split.OPTIMISE, 7, 64)
    left: list[str] = []

    with planted_server() as server:
        server.script = lambda messages: f"```python\n{left.pop(0) if left else NO_PYTHON}```"

        async def play(attempts):
            (played,) = await evaluate(
                version,
                attempts,
                task=warm_task,
                store=store,
                endpoint=server.endpoint,
                sandbox=default_sandbox(),
                work=tmp_path / "work",
            )
            return played

        left += [BROKEN, NO_PYTHON, GOOD, FASTER]
        first = await play([(item, 3)])
        assert first.stop is RolloutStop.ANSWERED, first.error
        measured, broken, no_python, good, _ = verdicts(first)
        assert measured["value"] == 0.0  # the seed that both lines begin from
        assert broken["reasons"][0].startswith("compile-error")
        assert no_python["reasons"][0].startswith("syntax-error")
        assert good["accepted"], good
        asked = said(first)
        assert f"{H100.multiprocessors} multiprocessors" in asked[0][0]
        assert "def gate_and_turn" in asked[0][0]  # the seed kernel
        assert "linear: " in asked[0][0]  # and where its time goes
        assert BROKEN.strip() in asked[2][1]
        assert "drifting" in asked[2][2]  # the compiler's own words
        assert "re-assigned" in asked[2][2]
        assert "triangle: " in asked[3][2]  # where the repaired one's time goes
        assert first.grade.valid

        fellow = next(other for other in others if other.payload["variant"]["precision"] == "fp16")
        (next_attempt,) = warm_task.continued([(fellow, 5)], [first], 7)
        second = await play([next_attempt])
    known = {digest_source(source) for source in (GOOD, FASTER, PROBLEM.seed_source())}
    assert {start["digest"] for start in next_attempt[0].payload["starts"]} <= known
    best = json.loads(first.output)["source"]
    prompts = [each[0] for each in said(second) if len(each) == 1]
    assert any(best.strip() in prompt and f"worth {first.grade.value:.3f}" in prompt for prompt in prompts)
    assert all("Where its time goes:\n- project_all: " in prompt for prompt in prompts)
    assert not second.grade.valid


def played(item, seed: int, source: str, value: float | None, parent: str | None = None) -> Trajectory:
    output = json.dumps({"source": source, **({} if parent is None else {"parent": digest_source(parent)})})
    grade = Grade(value=-1.5 if value is None else value, valid=value is not None, details={"time_us": 9.0})
    return Trajectory(version="v", item=item.id, seed=seed, output=output, stop=RolloutStop.ANSWERED, grade=grade)


def by_contract(task, contract: str) -> list:
    items = task.items(Split.OPTIMISE, 7, 64)
    return [item for item in items if item.payload["variant"]["precision"] == contract]


def starts(attempts) -> list[list[str]]:
    return [[start["source"] for start in item.payload.get("starts", [])] for item, _ in attempts]


async def test_attempts_go_on_from_what_was_accepted_under_the_same_contract(task):
    half, full = by_contract(task, "fp16"), by_contract(task, "fp32")
    earlier = [
        played(half[0], 1, "a", 1.0),
        played(half[0], 2, "nothing", None),
        played(half[1], 1, "b", 0.4, parent="a"),
    ]
    attempts = [(half[2], 1), (full[0], 1), (half[3], 1)]
    found = task.continued(attempts, earlier, 7)
    assert [(item.id, seed) for item, seed in found] == [(item.id, seed) for item, seed in attempts]
    assert found == task.continued(attempts, earlier, 7)
    assert found[1] == attempts[1]  # nothing was accepted under this contract
    assert {source for each in (found[0], found[2]) for source in starts([each])[0]} <= {
        "a",
        "b",
        PROBLEM.seed_source(),
    }
    assert [best["source"] for best in found[0][0].payload["best"]] == ["a", "b"]
    assert found[0][0].payload["best"][0]["variant"] == half[0].payload["variant"]
    assert found[0][0].payload["best"][0]["time_us"] == 9.0
    kept = {name: value for name, value in found[0][0].payload.items() if name not in ("starts", "best")}
    assert kept == half[2].payload


async def test_schedules_and_sealed_items_are_never_gone_on_from(task):
    attempts = [(item, 1) for item in by_contract(task, "fp16")[:3]]
    (sealed,) = (item for item in task.items(Split.HOLDOUT, 7, 1))
    scheduled = played(attempts[0][0], 1, "", 2.0).model_copy(update={"output": json.dumps({"schedule": PLAIN})})
    assert task.continued(attempts, [scheduled, played(sealed, 1, "secret", 3.0)], 7) == attempts
    assert "starts" not in sealed.payload


async def test_what_a_rollout_had_verified_counts_even_if_it_never_answered(task):
    items = by_contract(task, "fp16")
    tried = ToolCall(
        name="verify",
        arguments={"output": {"source": "tried"}},
        result={"accepted": True, "value": 0.7, "launches": [], "time_us": 5.0},
    )
    silent = Trajectory(version="v", item=items[0].id, seed=1, steps=[tried], stop=RolloutStop.TIMED_OUT)
    ((found, _),) = task.continued([(items[1], 1)], [silent], 7)
    assert [best["source"] for best in found.payload["best"]] == ["tried", PROBLEM.seed_source()]


async def test_a_round_goes_on_from_what_live_and_candidates_did_before_and_a_resumed_one_alike(task, tmp_path):
    artifacts = ArtifactStore(tmp_path / "artifacts")
    database = Database.sqlite(tmp_path / "pawl.sqlite")
    database.create()
    campaigns = Campaigns(database)
    campaigns.create("c", task="trimul", seed=7, settings={}, fingerprint="f", schema_version=1)
    half = by_contract(task, "fp16")
    decision = Decision(lever=Lever.SCAFFOLD, diagnosis=Diagnosis.REFUSED, reason="r")
    row = RoundRow(
        round=1,
        decision=decision,
        candidate=None,
        evaluation=Evaluation(mean=0.0, low=None, high=None, rollouts=1, valid=1, failures={}),
        races=[
            RaceSummary(
                race=Race.TARGET,
                outcome=Outcome.FAILED,
                evidence=save_trajectories(artifacts, [played(half[0], 1, "candidate's", 0.9)]),
            ),
            RaceSummary(race=Race.HOLDOUT, outcome=Outcome.FAILED, evidence="0" * 64),
        ],
        approval=None,
        fate="discarded",
        live="v",
        sampled="v",
        trajectories=save_trajectories(artifacts, [played(half[0], 1, "live's", 0.5)]),
        usage={},
    )
    campaigns.record_round("c", 1, row.model_dump(mode="json"))
    runtime = SimpleNamespace(context=SimpleNamespace(task=task, campaigns=campaigns, artifacts=artifacts))
    state = {"campaign": "c", "seed": 7, "round": 1, "rules": CampaignRules(items=8, attempts=2)}
    assert all(not each for each in starts(round_plan(runtime, state)))
    state["round"] = 2
    plan = round_plan(runtime, state)
    assert plan == round_plan(runtime, state)
    assert len(plan) == 16
    begun = {source for each in starts(plan) for source in each}
    assert {"live's", "candidate's"} <= begun <= {"live's", "candidate's", PROBLEM.seed_source()}


def test_a_mismatch_tells_how_far_off_and_nothing_of_the_case():
    cases = [
        {"variant": "n=11, batch=2, normal", "relative_l2": 1e-4, "largest": 1e-3, "missed": 0},
        {"variant": "n=67, batch=1, cauchy", "relative_l2": 0.123456, "largest": 3.0, "missed": 17, "seed": 5},
    ]
    report = Report(
        status=Status.REJECTED,
        reasons=["wrong-result: 17 elements differ, the worst by 3 (n=67, batch=1, cauchy)"],
        correctness=cases,
        floor_us=1.0,
        device=H100.name,
    )
    assert first_mismatch(report) == {"missed": 17, "largest": 3.0, "relative_l2": 0.1235}
    assert first_mismatch(report.model_copy(update={"reasons": ["compile-error: no"]})) is None
