"""A person decides, perhaps in another process, and exactly that happens; everything else is refused, saying why.

One campaign is run to the gate by a process of its own. Each test takes a copy of its home from there.
"""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from typing_extensions import TypedDict

from pawl.core import CampaignChanged, CampaignFinished, ConfigurationError, Conflict, Home, NotFound, SealBroken
from pawl.graph.builder import build_graph
from pawl.graph.checkpoints import open_saver
from pawl.graph.events import Finished
from pawl.graph.session import Session
from pawl.graph.store import Store
from pawl.graph.worker import due, work
from pawl.nodes.spec import NodeRuntime, NodeSpec, Update
from pawl.nodes.state import State, Verdict
from pawl.release import Channel, Lease, Status
from pawl.safety.budget import Budget

from .child_campaign import BETTER_AGENT, SharedServer, small_rules
from .session_fixtures import CAMPAIGN, Processes, Served, processes, records, served

RULES = small_rules(rounds=2, items=4, attempts=2)
"""The second round only looks what came of the first: the script pulls no lever in it."""
APPROVAL: dict[str, JsonValue] = {"decisions": [{"type": "approve"}], "actor": "ada", "reason": "the races look right"}


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


@pytest.fixture(scope="module")
def children(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes(server, tmp_path_factory.mktemp("unused")) as children:
        yield children


@pytest.fixture(scope="module")
def at_gate(children: Processes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose campaign waits; the process that ran it has ended."""
    home = tmp_path_factory.mktemp("at-gate") / "home"
    status, said = children.run(home=str(home), rules=RULES.model_dump(mode="json"))
    assert status == 0, said
    assert said[-1]["kind"] == "waiting"
    return home


@pytest.fixture
def home(at_gate: Path, tmp_path: Path) -> Path:
    """A copy of that home, to do with as one likes."""
    return copied(at_gate, tmp_path / "home")


@pytest.fixture(scope="module")
def ended(server: Served, at_gate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home after the approval and to the campaign's end, to which a worker brought it."""
    home = copied(at_gate, tmp_path_factory.mktemp("ended") / "home")

    async def finish() -> None:
        async with Session(home, settings=server.settings(), factory=server.factory()) as session:
            assert due(session) == [], "it waits for a person"
            session.answer(CAMPAIGN, session.pending(CAMPAIGN)[0].id, APPROVAL)
            assert [row.id for row in due(session)] == [CAMPAIGN]
            *_, last = [event async for event in work(session, once=True)]
            assert isinstance(last, Finished)

    asyncio.run(finish())
    return home


def copied(source: Path, target: Path) -> Path:
    # Sockets and pid files belong to processes, not to what is kept.
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("run", "*.sock")))


def opened(home: Path, server: Served, factory: SharedServer | None = None, **options: Any) -> Session:
    return Session(home, settings=server.settings(), factory=factory or server.factory(), **options)


def asked(session: Session) -> dict[str, Any]:
    """The one request that waits."""
    [request] = session.pending(CAMPAIGN)
    assert isinstance(request.request, dict)
    return {"id": request.id, **request.request}


def candidate(session: Session) -> str:
    """The version that the last `candidate.made` names."""
    return [
        str(each.body["version"]) for each in session.store.ledger.events(CAMPAIGN) if each.kind == "candidate.made"
    ][-1]


def decided(home: Path) -> list[Any]:
    return records(home)["decisions"]


def test_what_a_second_process_approves_a_third_makes_live_and_rollback_restores_what_was_before(
    home: Path, server: Served, children: Processes
) -> None:
    store = Store(Home(home), None)
    before = store.live_versions()["labels"].id
    [made] = [each.body["version"] for each in store.ledger.events(CAMPAIGN) if each.kind == "candidate.made"]
    assert made != before
    assert children.run(home=str(home), answer=APPROVAL)[0] == 0
    assert store.live_versions()["labels"].id == before, "an answer alone moves nothing"
    status, said = children.run(home=str(home))
    assert status == 0, said
    assert said[-1] == {"campaign": CAMPAIGN, "kind": "finished", "reason": "decided", "live": made}
    assert store.live_versions()["labels"].id == made
    store.close()

    with Session.sync(home, settings=server.settings()) as session:
        pointer = session.rollback("labels", by="bob", reason="the old one was fine")
        assert pointer.version == before
        assert session.status(CAMPAIGN).live == before
        moves = [(each.version, each.actor) for each in session.moves(CAMPAIGN)]
        assert moves == [(before, "rule:bootstrap"), (made, "ada"), (before, "bob")]


async def test_the_request_is_in_langchains_shape_and_shows_what_is_decided(home: Path, server: Served) -> None:
    async with opened(home, server) as session:
        request = asked(session)
        status = session.status(CAMPAIGN)
        assert status.status is Status.WAITING
        [action] = request["action_requests"]
        [review] = request["review_configs"]
        assert review["allowed_decisions"] == ["approve", "edit", "reject", "respond"]
        assert review["action_name"] == action["name"]
        for shown in (candidate(session)[:12], "tries C, D", "holdout passed", "adversarial passed"):
            assert shown in action["description"]
        assert status.live is not None
        assert f"Rollback would restore {status.live[:12]}" in action["description"]
        async with open_saver(session.home, None, []) as saver:
            paused = (
                await build_graph().compile(checkpointer=saver).aget_state({"configurable": {"thread_id": CAMPAIGN}})
            )
        [interrupt] = paused.interrupts
        assert interrupt.value["action_requests"] == [action], (
            "the interrupt is the request, as a LangGraph client expects"
        )
        assert interrupt.value["review_configs"] == [review]


async def test_a_rejected_candidate_is_discarded(home: Path, server: Served) -> None:
    async with opened(home, server) as session:
        before = session.status(CAMPAIGN).live
        session.reject(CAMPAIGN, asked(session)["id"], by="ada", reason="too greedy")
        status = await session.resume(CAMPAIGN)
        assert (status.status, status.live) == (Status.FINISHED, before)
        approval = status.rounds[0].approval
        assert approval is not None
        assert (approval.verdict, approval.actor, approval.reason) == (Verdict.REJECT, "ada", "too greedy")
        assert not status.rounds[0].promoted


async def test_a_candidate_that_is_overtaken_by_a_move_of_the_channel_is_discarded(home: Path, server: Served) -> None:
    async with opened(home, server) as session:
        before = session.store.registry.get(str(session.status(CAMPAIGN).live), "labels").version
        other = before.model_copy(update={"sampling": before.sampling.model_copy(update={"max_tokens": 77})})
        session.store.registry.add(other, task="labels", parent=before.id, lever=None, campaign="", round=0)
        session.approve(CAMPAIGN, asked(session)["id"], by="ada", reason="fine")
        session.store.channels.move(
            "labels", Channel.LIVE, other.id, expected_epoch=1, key="by-hand", reason="urgent", actor="bob"
        )
        status = await session.resume(CAMPAIGN)
        assert (status.status, status.live) == (Status.FINISHED, other.id)
        assert status.rounds[0].fate == f"overtaken: labels/live was moved to {other.id[:12]} meanwhile"
        assert not status.rounds[0].promoted


async def test_a_response_discards_and_is_read_before_the_next_decision(home: Path, server: Served) -> None:
    factory = server.factory()
    async with opened(home, server, factory) as session:
        before = session.status(CAMPAIGN).live
        session.respond(CAMPAIGN, asked(session)["id"], by="ada", message="try fewer calls of the tool")
        status = await session.resume(CAMPAIGN)
        assert (status.status, status.live) == (Status.FINISHED, before)
    [evidence] = factory.script.seen
    assert evidence.round == 2
    assert [each.response for each in evidence.history] == ["try fewer calls of the tool"]
    assert not evidence.history[0].promoted


async def test_an_edit_at_the_gate_is_a_new_candidate_that_races_and_is_asked_about_again(
    home: Path, server: Served
) -> None:
    def races(session: Session) -> int:
        return sum(each.kind.startswith("race.") for each in session.store.ledger.events(CAMPAIGN))

    async with opened(home, server) as session:
        first, raced = candidate(session), races(session)
        request = asked(session)["id"]
        agent = BETTER_AGENT.replace('"C", "D"', '"D", "C"')
        session.edit(CAMPAIGN, request, by="ada", reason="D first", files={"agent.py": agent})
        status = await session.resume(CAMPAIGN)
        assert status.status is Status.WAITING, status.rounds
        edited = candidate(session)
        assert edited != first
        assert races(session) == 2 * raced
        scaffold = session.store.registry.get(edited).version.scaffold
        assert session.store.artifacts.get_tree(scaffold)["agent.py"].decode() == agent
        again = asked(session)
        assert again["id"] != request
        assert edited[:12] in status.pending[0].description
        with pytest.raises(ConfigurationError, match="changes nothing in the scaffold"):
            session.edit(CAMPAIGN, again["id"], by="ada", reason="the same", files={"agent.py": agent})
        before = session.store.artifacts.get_tree(session.store.registry.get(first).version.scaffold)
        files = {"agent.py": before["agent.py"].decode()}
        session.edit(CAMPAIGN, again["id"], by="ada", reason="as it was", files=files)
        assert (await session.resume(CAMPAIGN)).status is Status.WAITING
        assert candidate(session) == first, "an edit may lead back to what was proposed before"
        session.approve(CAMPAIGN, asked(session)["id"], by="bob", reason="as first made")
        assert (await session.resume(CAMPAIGN)).live == first


async def test_a_reveal_that_is_not_what_was_promised_fails_the_campaign_and_is_on_the_ledger(
    home: Path, server: Served
) -> None:
    async with opened(home, server) as session:
        session.approve(CAMPAIGN, asked(session)["id"], by="ada", reason="fine")
        with closing(sqlite3.connect(session.home.judge / "judge.sqlite")) as judge, judge:
            judge.execute("UPDATE races SET evidence = ?", ('{"verdict": "passed"}',))
        for _ in range(2):
            with pytest.raises(SealBroken, match="Trust no outcome"):
                await session.resume(CAMPAIGN)
        assert session.status(CAMPAIGN).status is Status.FAILED
        [event] = [each for each in session.store.ledger.events(CAMPAIGN) if each.kind == "campaign.revealed"]
        assert event.body["differs"]


async def test_an_unknown_id_is_told_what_waits(home: Path, server: Served) -> None:
    async with opened(home, server) as session:
        waiting = asked(session)["id"]
        for wrong in ("no-such-id", ""):
            with pytest.raises(NotFound, match=f"Waiting there: {waiting[:8]}"):
                session.approve(CAMPAIGN, wrong, by="ada", reason="fine")
        with pytest.raises(NotFound, match="No campaign 'other'"):
            session.approve("other", waiting, by="ada", reason="fine")
        assert decided(home) == []
        session.approve(CAMPAIGN, waiting[:8], by="ada", reason="the beginning of the id will do")
        assert len(decided(home)) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {},
        None,
        [],
        "approve",
        {"decisions": [], "actor": "ada"},
        {"decisions": None, "actor": "ada"},
        {"decisions": [{}], "actor": "ada"},
        {"decisions": [{"type": "maybe"}], "actor": "ada"},
        {"decisions": [{"type": "respond", "message": ""}], "actor": "ada"},
        {"decisions": [{"type": "approve"}, {"type": "reject"}], "actor": "ada"},
        {"decisions": [{"type": "approve"}], "actor": ""},
        {"decisions": [{"type": "approve"}], "actor": "  "},
    ],
)
async def test_an_empty_or_misshapen_answer_is_none(home: Path, server: Served, answer: Any) -> None:
    async with opened(home, server) as session:
        request = asked(session)["id"]
        with pytest.raises(ConfigurationError):
            session.answer(CAMPAIGN, request, answer)
        assert decided(home) == []
        assert asked(session)["id"] == request


async def test_a_second_answer_is_told_of_the_first(home: Path, server: Served) -> None:
    async with opened(home, server) as session:
        request = asked(session)["id"]
        session.approve(CAMPAIGN, request, by="ada", reason="fine")
        with pytest.raises(Conflict, match="was decided by ada at"):
            session.reject(CAMPAIGN, request, by="bob", reason="not so fine")
        with pytest.raises(Conflict):
            session.approve(CAMPAIGN, request, by="ada", reason="fine")
        assert [row["actor"] for row in decided(home)] == ["ada"]


ANSWER = """
import pathlib, sys
from pawl.core import Conflict
from pawl.graph.session import Session
home, go, request, name = sys.argv[1:]
with Session.sync(home, plugins=False) as session:
    print("ready", flush=True)
    while not pathlib.Path(go).exists():
        pass
    try:
        session.approve("c", request, by=name, reason="fine")
    except Conflict as conflict:
        sys.exit(f"told: {conflict}")
"""


def test_of_two_processes_that_answer_at_the_same_moment_one_wins_and_one_is_told(home: Path, tmp_path: Path) -> None:
    store = Store(Home(home), None)
    [request] = store.decisions.pending(CAMPAIGN)
    store.close()
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", ANSWER, str(home), str(tmp_path / "go"), request.interrupt_id, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for name in ("ada", "bob")
    }
    for process in started.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    told = {name: process.communicate(timeout=60)[1] for name, process in started.items()}
    [winner] = [name for name, process in started.items() if process.returncode == 0]
    [loser] = [name for name, process in started.items() if process.returncode == 1]
    assert told[loser].startswith("told: ")
    assert f"was decided by {winner} at" in told[loser]
    assert [row["actor"] for row in decided(home)] == [winner]


async def test_resuming_without_an_answer_says_what_to_type(home: Path, server: Served) -> None:
    async with opened(home, server) as session:
        waiting = asked(session)["id"][:8]
        with pytest.raises(Conflict, match=f"pawl approve {CAMPAIGN} {waiting} --as NAME --reason TEXT"):
            await session.resume(CAMPAIGN)
        assert session.status(CAMPAIGN).status is Status.WAITING


async def test_a_finished_campaign_is_neither_resumed_nor_answered(ended: Path, server: Served) -> None:
    async with opened(ended, server) as session:
        before = records(ended)
        with pytest.raises(CampaignFinished, match="pawl run labels"):
            await session.resume(CAMPAIGN)
        with pytest.raises(CampaignFinished):
            session.answer(CAMPAIGN, "0", APPROVAL)
        with pytest.raises(NotFound, match="pawl history"):
            await session.resume("other")
        assert records(ended) == before


class _Audit(TypedDict):
    audited: int


async def _audit(state: State, runtime: NodeRuntime) -> Update:
    return {"audited": state["round"]}


async def test_a_campaign_whose_graph_has_changed_is_refused(home: Path, server: Served) -> None:
    extra = NodeSpec(
        name="audit",
        run=_audit,
        after="evaluator",
        before="feedback_agent",
        reads=("round",),
        writes=("audited",),
        state=_Audit,
    )
    async with opened(home, server, nodes=[extra]) as session:
        request = session.pending(CAMPAIGN)[0].id
        with pytest.raises(CampaignChanged, match="same code and plug-ins"):
            await session.resume(CAMPAIGN)
        with pytest.raises(CampaignChanged):
            session.answer(CAMPAIGN, request, APPROVAL)
    async with opened(home, server) as session:
        session.answer(CAMPAIGN, request, APPROVAL)
        assert (await session.resume(CAMPAIGN)).status is Status.FINISHED


def test_a_second_runner_is_told_who_runs_it(home: Path, children: Processes) -> None:
    store = Store(Home(home), None)
    try:
        assert children.run(home=str(home), answer=APPROVAL)[0] == 0
        with Lease(store.db, CAMPAIGN):
            before = records(home)
            status, said = children.run(home=str(home))
            assert (status, said[-1]["type"]) == (1, "Conflict"), said
            assert records(home) == before
        assert children.run(home=str(home))[1][-1]["kind"] == "finished"
    finally:
        store.close()


async def test_a_fork_runs_as_its_own_campaign_and_the_first_is_as_it_was(home: Path, server: Served) -> None:
    async with opened(home, server) as session:
        states = await session.history(CAMPAIGN)
        assert [each.next for each in states[:3]] == [["gate"], ["shadow"], ["gauntlet"]]
        [decision] = [each for each in states if each.next == ["feedback_agent"]]
        events, waiting = session.store.ledger.events(CAMPAIGN), session.pending(CAMPAIGN)
        with pytest.raises(NotFound, match="pawl history"):
            await session.fork(CAMPAIGN, "no-such-state")
        fork = await session.fork(CAMPAIGN, decision.id[:-1], name="other")
        status = await session.resume(fork)
        assert status.status is Status.WAITING
        started = {each.kind for each in session.store.ledger.events(fork)}
        assert "race.holdout" in started
        assert "round.evaluated" not in started, "it begins behind the evaluator"
        assert status.pending[0].id != waiting[0].id
        session.approve(fork, status.pending[0].id, by="ada", reason="the fork's")
        assert session.store.ledger.events(CAMPAIGN) == events
        assert session.pending(CAMPAIGN) == waiting


async def test_the_kill_switch_stops_at_the_next_node_until_it_is_lifted(
    home: Path, ended: Path, server: Served
) -> None:
    async with opened(home, server) as session:
        session.answer(CAMPAIGN, asked(session)["id"], APPROVAL)
        seen: list[str] = []
        async for event in session.stream(CAMPAIGN):
            seen.append(event.node if event.kind == "node" else event.kind)
            if seen[-1] == "promoter":
                session.stop(by="bob", reason="the room is on fire")
        assert seen[-1] == "halted"
        assert set(seen) <= {"gate", "promoter", "monitor", "halted"}
        status = session.status(CAMPAIGN)
        assert status.status is Status.STOPPED
        assert status.reason is not None
        assert "the room is on fire" in status.reason
        assert "pawl go" in status.reason
        events = session.store.ledger.events(CAMPAIGN)
        assert (await session.resume(CAMPAIGN)).status is Status.STOPPED
        assert session.store.ledger.events(CAMPAIGN) == events
        assert session.go(by="bob")
        assert (await session.resume(CAMPAIGN)).status is Status.FINISHED
    assert records(home)["rounds"] == records(ended)["rounds"]


@pytest.mark.slow  # tests/test_halts.py has it while a job trains
async def test_a_used_up_budget_halts_and_a_larger_one_goes_on(home: Path, server: Served) -> None:
    async with opened(home, server) as session:
        before = session.status(CAMPAIGN)
        session.answer(CAMPAIGN, asked(session)["id"], APPROVAL)
        status = await session.resume(CAMPAIGN, budget=Budget(tokens=before.spent.tokens))
        assert status.status is Status.STOPPED
        assert status.reason is not None
        assert "budget of tokens" in status.reason
        assert f"pawl resume {CAMPAIGN} --budget-tokens" in status.reason
        assert (await session.resume(CAMPAIGN)).status is Status.STOPPED, "the limit stays"
        assert status.live == before.live
        assert session.status(CAMPAIGN).spent.tokens == before.spent.tokens
        status = await session.resume(CAMPAIGN, budget=Budget(tokens=10_000_000))
        assert status.status is Status.FINISHED
        assert status.live != before.live


def test_the_sync_twin_does_the_same(home: Path, server: Served) -> None:
    with Session.sync(home, settings=server.settings(), factory=server.factory()) as session:
        [request] = session.pending()
        with pytest.raises(Conflict, match="pawl approve"):
            session.resume(CAMPAIGN)
        session.approve(CAMPAIGN, request.id, by="ada", reason="fine")
        kinds = [event.kind for event in session.stream(CAMPAIGN)]
        assert kinds[0] == "node"
        assert kinds[-1] == "finished"
        assert session.status(CAMPAIGN).rounds[0].promoted
        assert session.history(CAMPAIGN)[0].next == []
        assert session.pending() == []
