"""Promises of the kernel task: the seed is worth nought, a schedule is worth its real kernel, a bad one the floor."""

import json
import math

import pytest

from pawl.core import Grade, RolloutStop, Trajectory
from pawl.evals import Split, TaskEnvironment, load_task
from pawl.evals.showcase import ShowsBest
from pawl.kernels import find_problem
from pawl.safety import default_sandbox

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


async def test_the_visible_split_has_sixty_four_assignments_and_sealed_ones_are_others(task):
    visible = task.items(Split.OPTIMISE, 7, 130)
    assert len({item.id for item in visible}) == 64
    assert visible[64:128] == visible[:64]
    assert visible[3:5] == task.items(Split.OPTIMISE, 7, 2, start=3)
    sealed = task.items(Split.HOLDOUT, 7, 130)
    assert len({item.id for item in sealed} | {item.id for item in visible}) == 130 + 64
    assert len({item.slice for item in sealed}) <= 4


async def test_the_seed_is_worth_nought_and_a_schedule_what_its_kernel_is(task):
    (item,) = task.items(Split.OPTIMISE, 7, 1)
    assert (await task.grade(item, PROBLEM.seed_source())).value == 0.0
    as_schedule = await task.grade(item, json.dumps({"schedule": PLAIN}))
    as_source = await task.grade(item, json.dumps({"source": PROBLEM.render(PLAIN)}))
    assert as_schedule.valid, as_schedule.details
    assert as_schedule.estimated
    assert as_schedule.value == as_source.value
    details = as_schedule.details
    assert as_schedule.value == pytest.approx(math.log(details["seed_us"] / details["time_us"]))
    conditions = details["conditions"]
    assert "crude" in conditions
    assert len(conditions) >= 3
    perturbed = await task.perturb(item, json.dumps({"schedule": PLAIN}))
    assert perturbed.value == min(conditions.values())
    assert not task.cheats(item, json.dumps({"schedule": PLAIN}), as_schedule)


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
