"""What ends a run before its campaign ends: a lost lease, a stop, a drain; and who goes on with it afterwards."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from pawl.core import LeaseLost
from pawl.core.database import metadata
from pawl.graph.events import Event, Halted, NodeStarted, Parked, Progress, Waiting
from pawl.graph.session import Session
from pawl.graph.worker import due, work
from pawl.nodes.decision import Lever
from pawl.nodes.spec import NodeSpec
from pawl.release import Status
from pawl.release.leases import leases_table
from pawl.safety.budget import Budget
from pawl.training import JobState, RunDir

from .child_campaign import small_rules
from .session_fixtures import CAMPAIGN, SEED, Served, served

RULES = small_rules(items=4, attempts=2)


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


def rows(session: Session) -> dict[str, int]:
    """How much is written down, without time and other accounts of who worked when."""
    kept = [table for table in metadata.sorted_tables if not table.name.startswith(("leases", "usage", "budget_"))]
    with session.store.db.read() as connection:
        return {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in kept}


async def tell(events: AsyncGenerator[Event], told: list[Event]) -> None:
    """Note down what happens."""
    async for event in events:
        told.append(event)  # noqa: PERF401 - what was told before an error counts


async def test_a_run_that_was_taken_over_stops_writes_nothing_more_and_says_so(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pawl.release.leases.TRUSTED", 0.0)  # as if its last renewal were long ago
    options = {"settings": server.settings(), "factory": server.factory()}
    async with Session(tmp_path, **options) as paused, Session(tmp_path, **options) as other:
        name = paused.create("labels", rules=RULES, seed=SEED, campaign=CAMPAIGN)
        first = paused.stream(name)
        async for event in first:
            if isinstance(event, NodeStarted) and event.node == "task_agent":
                break
        with paused.store.db.write() as connection:  # what a minute without a renewal leaves behind
            connection.execute(update(leases_table).values(expires=0.0))
        assert (await other.resume(name)).status is Status.WAITING
        before, checkpoints = rows(other), len(await other.history(name))
        told: list[Event] = []
        with pytest.raises(LeaseLost, match=r"another process took it over.*stops here"):
            await tell(first, told)
        assert [event for event in told if isinstance(event, NodeStarted)] == []
        assert rows(other) == before
        assert len(await other.history(name)) == checkpoints
        assert other.status(name).status is Status.WAITING


async def halted(events: AsyncGenerator[Event], session: Session, how: str, after: int) -> tuple[Halted, int]:
    """Halt a run behind one of its training steps, and return what it told of that, and the step."""
    step, told = -1, None
    async for event in events:
        if isinstance(event, Progress) and event.node == "trainer" and event.done > after and step < 0:
            step = event.done
            if how == "stop":
                session.stop(by="ada", reason="a drill", campaign=CAMPAIGN)
            elif how == "budget":
                session.store.set_budget(CAMPAIGN, Budget(tokens=1))
            else:
                session.drain()
        told = event
    assert isinstance(told, Halted)
    return told, step


async def test_a_stop_a_budget_or_a_drain_ends_training_after_its_step_and_it_goes_on_from_there(
    server: Served, tmp_path: Path
) -> None:
    rules = small_rules(items=4, attempts=2, training={**RULES.training, "epochs": 400})
    async with Session(tmp_path, settings=server.settings(), factory=server.factory(Lever.WEIGHTS)) as session:
        name = session.create("labels", rules=rules, seed=SEED, campaign=CAMPAIGN)
        stop, step = await halted(session.stream(name), session, "stop", after=1)
        assert "stopped by ada" in stop.reason
        assert session.status(name).status is Status.STOPPED
        [run] = [RunDir(path) for path in session.home.runs.iterdir()]
        left = run.status()
        assert left is not None
        assert left.state is JobState.CANCELLED
        assert step <= left.step < left.total_steps
        assert due(session) == [], "a person stopped it"
        assert [event.reason async for event in session.stream(name) if isinstance(event, Halted)] == [stop.reason]

        session.go(by="ada", campaign=CAMPAIGN)
        spent, again = await halted(session.stream(name), session, "budget", after=left.step)
        assert "budget of tokens" in spent.reason
        assert session.status(name).status is Status.STOPPED
        assert again > left.step

        drain, last = await halted(session.stream(name, budget=Budget()), session, "drain", after=again)
        assert "goes on from its last step" in drain.reason
        assert session.status(name).status is Status.PARKED
        assert last > again
        steps = [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        assert steps == list(range(len(steps))), "no step was done twice"
        assert [row.id for row in due(session)] == [name], "nobody works on it"


def audit(name: str) -> NodeSpec:
    async def run(state: object, runtime: object) -> dict[str, object]:
        return {}

    return NodeSpec(name=name, run=run, after="evaluator", before="feedback_agent")


async def test_a_worker_tells_once_of_what_it_cannot_run_goes_on_with_others_and_ends_when_drained(
    server: Served, tmp_path: Path
) -> None:
    async with Session(tmp_path, nodes=[audit("gone")], plugins=False) as session:
        session.create("labels", rules=RULES, campaign="old")
    async with Session(tmp_path, settings=server.settings(), factory=server.factory()) as session:
        session.create("labels", rules=RULES, seed=SEED, campaign=CAMPAIGN)
        session.stop(by="ada", reason="a drill", campaign=CAMPAIGN)
        told: list[Event] = []

        worker = asyncio.create_task(tell(work(session, poll_seconds=0.05), told))
        deadline = time.monotonic() + 60
        while sum(isinstance(each, Halted) for each in told) < 2 and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # it looks ten times more
        reasons = [(each.campaign, each.reason) for each in told if isinstance(each, Halted)]
        assert [campaign for campaign, _ in reasons] == ["old", CAMPAIGN], "once each, however often it looked"
        assert "another graph" in reasons[0][1]
        assert "stopped by ada" in reasons[1][1]

        session.go(by="ada", campaign=CAMPAIGN)
        deadline = time.monotonic() + 120
        while not any(isinstance(each, Waiting) for each in told) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert session.status(CAMPAIGN).status is Status.WAITING
        session.drain()
        await asyncio.wait_for(worker, 30)
        assert not any(isinstance(each, Parked) for each in told)
