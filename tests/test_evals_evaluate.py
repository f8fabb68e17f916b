"""Promises of evaluation: one grade an attempt, in order, whatever the scaffold did; what isn't its doing is raised."""

import pytest

from pawl.core import ArtifactStore, RolloutStop, Stopped, Version
from pawl.evals import Split, TaskEnvironment, load_task
from pawl.evals.evaluate import evaluate, rollout_seed
from pawl.safety import default_sandbox

from .evals_fixtures import planted_server

AGENT = """
from client import answer, load_item
item = load_item()
word = item["payload"]["context"]
assert word < "m"
answer({"label": "C"})
"""


@pytest.fixture
def bench(tmp_path):
    store = ArtifactStore(tmp_path / "artifacts")
    task = load_task("labels", TaskEnvironment(sandbox=default_sandbox(), cache=tmp_path))
    files = {**task.seed_scaffold(False), "agent.py": AGENT.encode()}
    version = Version(scaffold=store.put_tree(files), base_model="planted")
    items = task.items(Split.OPTIMISE, 7, 8)

    async def go(**more):
        with planted_server() as server:
            return await evaluate(
                version,
                [(item, rollout_seed(3, item)) for item in items],
                task=task,
                store=store,
                endpoint=server.endpoint,
                sandbox=default_sandbox(),
                work=tmp_path / "work",
                batch=3,
                **more,
            )

    return task, items, go


async def test_every_attempt_is_graded_in_order_and_a_crash_has_the_worst_grade(bench):
    _, items, go = bench
    seen = []
    done = await go(on_done=seen.append)
    assert [each.item for each in done] == [item.id for item in items]
    assert sorted(each.id for each in seen) == sorted(each.id for each in done)
    for item, each in zip(items, done, strict=True):
        if str(item.payload["context"]) < "m":
            assert each.grade.valid
            assert each.usage.verifications == 1
        else:
            assert each.stop is RolloutStop.CRASHED
            assert (each.grade.value, each.grade.reasons) == (0.0, ["crashed"])
            assert each.usage.verifications == 0


async def test_a_stop_while_grading_is_raised_as_itself(bench, monkeypatch):
    task, _, go = bench

    async def stopped(item, output):
        raise Stopped("stopped by ann: enough")

    monkeypatch.setattr(task, "grade", stopped)
    with pytest.raises(Stopped, match="enough"):
        await go()
