"""Promises of tasks: found by name, items that repeat, grades that can't be cheated into an exception."""

import json
from collections import Counter

import pytest

from pawl.core import NotFound
from pawl.evals import ScaffoldConfig, Split, Task, TaskEnvironment, load_task, task_names
from pawl.evals.labels import LABELS, REFUSED, LabelsTask
from pawl.safety import Command, Layer, Result


class NoSandbox:
    """Stands in where a task must not start anything."""

    layers: frozenset[Layer] = frozenset()

    async def run(self, command: Command) -> Result:
        raise AssertionError(command)


@pytest.fixture
def environment(tmp_path):
    return TaskEnvironment(sandbox=NoSandbox(), cache=tmp_path)


@pytest.fixture
def labels(environment):
    return load_task("labels", environment)


def test_registered_tasks_are_listed_without_loading_them():
    assert {"labels", "trimul"} <= set(task_names())


def test_an_unknown_task_names_those_that_are_known(environment):
    with pytest.raises(NotFound, match=r"'trimull'.*labels.*trimul"):
        load_task("trimull", environment)


def plug_in(folder, name, body):
    (folder / f"{name}.py").write_text(body)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pawl.tasks]\n{name} = {name}:Thing\n")


@pytest.mark.parametrize(
    "body", ["raise RuntimeError('broken on purpose')", "class Thing:\n  def __init__(self, e): ..."]
)
def test_a_broken_plug_in_warns_names_itself_and_hurts_no_other(environment, tmp_path, monkeypatch, body):
    plug_in(tmp_path, "shakytask", body)
    monkeypatch.syspath_prepend(tmp_path)
    assert "shakytask" in task_names()
    with pytest.warns(RuntimeWarning, match="shakytask"), pytest.raises(NotFound):
        load_task("shakytask", environment)
    assert load_task("labels", environment).name == "labels"


def test_labels_is_a_whole_task(labels):
    assert isinstance(labels, Task)


def test_items_repeat_for_a_seed_and_carry_no_gold(labels):
    for split in Split:
        drawn = labels.items(split, 7, 20)
        assert drawn == labels.items(split, 7, 20)
        assert drawn[5:9] == labels.items(split, 7, 4, start=5)
        assert all(item.gold is None for item in drawn)
        assert drawn != labels.items(split, 8, 20)


def test_visible_items_come_again_and_sealed_ones_never_do(labels):
    visible = [item.id for item in labels.items(Split.OPTIMISE, 7, 32)]
    sealed = [item.id for item in labels.items(Split.HOLDOUT, 7, 32)]
    assert set(Counter(visible).values()) == {2}
    assert len(set(sealed)) == 32
    assert not set(visible) & set(sealed)


@pytest.mark.parametrize("output", [None, "", "A", "[]", '{"label": 3}', '{"label": "Z"}', '{"schedule": {}}', "{"])
async def test_a_bad_output_gets_the_worst_grade_and_a_reason(labels, output):
    (item,) = labels.items(Split.OPTIMISE, 7, 1)
    grade = await labels.grade(item, output)
    assert (grade.value, grade.valid) == (labels.metric.worst, False)
    assert grade.reasons == [grade.details["failure_class"]]


async def test_every_context_has_one_label_that_is_worth_most_and_two_that_are_refused(labels):
    for item in labels.items(Split.OPTIMISE, 7, 16):
        grades = {label: await labels.grade(item, json.dumps({"label": label})) for label in LABELS}
        assert {label for label, grade in grades.items() if not grade.valid} == REFUSED
        assert [grade.value for grade in grades.values()].count(1.0) == 1


async def test_the_verify_tool_says_what_the_grade_will_be(labels):
    (item,) = labels.items(Split.OPTIMISE, 7, 1)
    (verify,) = labels.tools(item)
    for label in LABELS:
        grade = await labels.grade(item, json.dumps({"label": label}))
        result = await verify.run({"output": {"label": label}})
        assert result.value == {"accepted": grade.valid, "reasons": grade.reasons, "value": grade.value}
        assert result.usage.verifications == 1


@pytest.mark.parametrize("capable", [True, False])
def test_a_seed_scaffold_has_an_agent_and_a_valid_typed_part(environment, capable):
    files = LabelsTask(environment).seed_scaffold(capable)
    assert set(files) == {"agent.py", "client.py", "scaffold.json"}
    ScaffoldConfig.model_validate_json(files["scaffold.json"])
    compile(files["agent.py"], "agent.py", "exec")
