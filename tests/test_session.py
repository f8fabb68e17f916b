"""What a session tells, what it keeps between sessions, and what halts it and wakes it."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pawl.core import CampaignFinished
from pawl.graph.events import Event, Finished, Halted, NodeStarted, Progress, RoundFinished, Waiting
from pawl.graph.session import Session
from pawl.graph.worker import due, work
from pawl.nodes.spec import NodeSpec
from pawl.release import Status
from pawl.safety.budget import Budget

from .child_campaign import small_rules
from .session_fixtures import CAMPAIGN, SEED, Served, served

RULES = small_rules(items=4, attempts=2)


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


async def test_another_session_finds_the_state_as_it_was_and_every_event_is_told_in_order(
    server: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states: dict[str, dict[str, Any]] = {}

    def watch(name: str, after: str, before: str) -> NodeSpec:
        async def look(state: Any, runtime: Any) -> dict[str, Any]:
            states[name] = dict(state)
            return {}

        return NodeSpec(name=name, run=look, after=after, before=before)

    nodes = [watch("asked", "shadow", "gate"), watch("answered", "gate", "promoter")]
    options: dict[str, Any] = {"settings": server.settings(), "nodes": nodes}
    with caplog.at_level(logging.WARNING):
        async with Session(tmp_path, factory=server.factory(), **options) as session:
            events = [event async for event in started(session)]
            [request] = session.pending(CAMPAIGN)
            session.approve(CAMPAIGN, request.id[:8], by="ada", reason="the races look right")
        async with Session(tmp_path, factory=server.factory(), **options) as session:
            events += [event async for event in session.stream(CAMPAIGN)]

    check_events(events)
    asked, answered = states["asked"], states["answered"]
    assert {key for key in asked if asked[key] != answered[key]} == {"approval"}
    assert [type(asked[key]) for key in asked if key != "approval"] == [
        type(answered[key]) for key in asked if key != "approval"
    ]
    assert [each.message for each in caplog.records if "eserializ" in each.message] == []


async def started(session: Session) -> AsyncIterator[Event]:
    name = session.create("labels", rules=RULES, seed=SEED, campaign=CAMPAIGN)
    async for event in session.stream(name):
        yield event


def check_events(events: list[Event]) -> None:
    nodes = [event.node for event in events if isinstance(event, NodeStarted)]
    expected = [
        "meta_agent",
        "task_agent",
        "evaluator",
        "feedback_agent",
        "scaffold_editor",
        "gauntlet",
        "shadow",
        "asked",
        "gate",
    ]
    assert nodes == [*expected, "gate", "answered", "promoter", "monitor"]
    assert [event.row.round for event in events if isinstance(event, RoundFinished)] == [1]
    [waiting] = [event for event in events if isinstance(event, Waiting)]
    assert "Rollback would restore" in waiting.description
    assert "+ tries C, D" in waiting.description
    assert any(isinstance(event, Progress) and event.text == "rollouts 8/8" for event in events)
    assert isinstance(events[-1], Finished)


@pytest.mark.slow  # tests/test_halts.py, test_cli_signals.py and test_campaign_gate.py have each of them
async def test_stops_budgets_and_drains_end_at_a_boundary_and_are_resumed_from_there(
    server: Served, tmp_path: Path
) -> None:
    async with Session(tmp_path, settings=server.settings(), factory=server.factory()) as session:
        name = session.create("labels", rules=RULES, seed=SEED, campaign=CAMPAIGN, budget=Budget(tokens=1))
        session.stop(by="ada", reason="a drill", campaign=CAMPAIGN)

        [stopped] = [event async for event in session.stream(name) if not isinstance(event, NodeStarted)]
        assert isinstance(stopped, Halted)
        assert "stopped by ada" in stopped.reason
        assert "pawl go c" in stopped.reason
        assert session.go(by="ada", campaign=CAMPAIGN)

        *_, spent = [event async for event in session.stream(name)]
        assert isinstance(spent, Halted)
        assert "budget of tokens" in spent.reason
        assert session.status(name).status is Status.STOPPED
        *_, again = [event async for event in session.stream(name)]
        assert again == spent

        seen: list[str] = []
        async for event in session.stream(name, budget=Budget(tokens=10_000_000)):
            if isinstance(event, NodeStarted):
                seen.append(event.node)
                if event.node == "feedback_agent":
                    session.drain()
        assert seen == ["task_agent", "evaluator", "feedback_agent"], "no call was made that couldn't be paid for"
        drained = session.status(name)
        assert drained.status is Status.STOPPED
        assert "drained" in str(drained.reason)

        assert [row.id for row in due(session)] == []  # a person stopped it; nothing wakes it but a person
        status = await session.resume(name)
        assert status.status is Status.WAITING
        [request] = session.pending()
        session.approve(name, request.id, by="ada", reason="the races look right")
        assert [row.id for row in due(session)] == [name]
        woken = [event async for event in work(session, once=True)]
        assert isinstance(woken[-1], Finished)
        with pytest.raises(CampaignFinished, match="has ended"):
            await session.resume(name)
