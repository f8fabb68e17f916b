"""What is broken is told, with what to do; what a scaffold or a model does wrong is a result like any other.

A damaged home and a missing model are errors for a person. A scaffold that doesn't parse, never ends or prints without
end, and a model that answers garbage, are data: the campaign goes on to its end and the trajectories say what happened.
"""

import asyncio
import shutil
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pawl.core import (
    ArtifactDamaged,
    Home,
    HomeDamaged,
    ModelUnavailable,
    NotFound,
    RolloutStop,
    Settings,
    Trajectory,
    Version,
)
from pawl.evals.evaluate import rollout_of
from pawl.evals.task import Item
from pawl.graph.session import Session
from pawl.graph.store import Store
from pawl.nodes.context import Services
from pawl.nodes.decision import Lever
from pawl.nodes.state import StopReason
from pawl.release import Campaign, Status
from pawl.safety import Limits
from pawl.safety.budget import Budget
from pawl.serving.policy import Endpoint
from pawl.serving.runner import RolloutLimits, run_rollouts

from .child_campaign import SharedServer, small_rules
from .session_fixtures import CAMPAIGN, SEED, Served, priced, served

pytestmark = pytest.mark.slow  # test_bad_input.py holds the same promises through fewer campaigns

RULES = small_rules(items=4, attempts=2)


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


@pytest.fixture(scope="module")
def at_gate(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose campaign waits at the gate."""
    home = tmp_path_factory.mktemp("at-gate") / "home"

    async def run() -> None:
        async with Session(home, settings=server.settings(), factory=server.factory()) as session:
            status = await session.start("labels", rules=RULES, seed=SEED, campaign=CAMPAIGN)
            assert status.status is Status.WAITING

    asyncio.run(run())
    return home


@pytest.fixture
def home(at_gate: Path, tmp_path: Path) -> Path:
    """A copy of that home, to damage."""
    return Path(shutil.copytree(at_gate, tmp_path / "home", ignore=shutil.ignore_patterns("run")))


def scribble(path: Path) -> None:
    """Overwrite a file as a bad disk would; what SQLite keeps beside it goes, too."""
    for beside in path.parent.glob(f"{path.name}-*"):
        beside.unlink()
    path.write_bytes(b"this was a database once\n" * 400)


async def test_a_scribbled_database_is_a_damaged_home(home: Path, server: Served) -> None:
    scribble(home / "pawl.sqlite")
    with pytest.raises(HomeDamaged, match=r"pawl\.sqlite") as caught:
        async with Session(home, settings=server.settings(), factory=server.factory()):
            pass
    assert "Restore it from a backup" in str(caught.value)
    assert "--home" in str(caught.value)


async def test_scribbled_checkpoints_are_a_damaged_home_and_what_is_live_is_still_told(
    home: Path, server: Served
) -> None:
    scribble(home / "checkpoints.sqlite")
    async with Session(home, settings=server.settings(), factory=server.factory()) as session:
        live = session.status(CAMPAIGN).live
        assert live is not None
        session.approve(CAMPAIGN, session.pending(CAMPAIGN)[0].id, by="ada", reason="fine")
        for broken in (session.resume(CAMPAIGN), session.history(CAMPAIGN)):
            with pytest.raises(HomeDamaged, match=r"checkpoints\.sqlite") as caught:
                await broken
            assert "Restore that file from a backup" in str(caught.value)
        assert session.status(CAMPAIGN).live == live


async def test_a_file_where_the_home_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(HomeDamaged, match="--home or PAWL_HOME"):
        async with Session(tmp_path / "home"):
            pass


async def test_a_damaged_scaffold_is_told_and_once_restored_the_campaign_goes_on(home: Path, server: Served) -> None:
    async with Session(home, settings=server.settings(), factory=server.factory()) as session:
        before = session.status(CAMPAIGN).live
        scaffold = session.store.live_versions()["labels"].scaffold
        manifest = session.store.artifacts.get_json(scaffold)
        assert isinstance(manifest, dict)
        agent = session.store.artifacts.path(str(manifest["agent.py"]))
        good = agent.read_bytes()
        agent.write_bytes(good[: len(good) // 2])
        session.reject(CAMPAIGN, session.pending(CAMPAIGN)[0].id, by="ada", reason="another round, please")
        forked = await session.fork(CAMPAIGN, (await _state_before(session, "task_agent")), name="again")
        with pytest.raises(ArtifactDamaged, match="from a backup, or roll back") as caught:
            await session.resume(forked)
        assert str(agent) in str(caught.value)
        status = session.status(forked)
        assert (status.status, status.live) == (Status.FAILED, before)
        assert status.reason is not None
        assert "ArtifactDamaged" in status.reason
        agent.write_bytes(good)
        status = await session.resume(forked, budget=Budget(verifications=1))
        assert status.status is Status.STOPPED, "the rollouts went through, and used the budget up"
        assert status.spent.verifications > 1


async def _state_before(session: Session, node: str) -> str:
    return next(each.id for each in await session.history(CAMPAIGN) if each.next == [node])


async def test_an_unknown_task_is_told_which_there_are(tmp_path: Path) -> None:
    async with Session(tmp_path / "home") as session:
        with pytest.raises(NotFound, match=r"'no-such-task'.*labels.*trimul"):
            await session.start("no-such-task")
        assert session.campaigns() == []


async def test_an_endpoint_that_is_down_is_told_and_the_campaign_can_be_resumed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    async with Session(tmp_path / "home", settings=Settings(model_url=url)) as session:
        with pytest.raises(ModelUnavailable, match=url):
            await session.start("labels", rules=RULES, campaign=CAMPAIGN)
        assert [each.id for each in session.campaigns()] == [CAMPAIGN]
        assert session.store.ledger.events(CAMPAIGN) == []
        with pytest.raises(ModelUnavailable):
            await session.resume(CAMPAIGN)


def _garbage(number: int) -> Response:
    """What a broken server may say, in turn."""
    answers: list[Callable[[], Response]] = [
        lambda: PlainTextResponse("<html>It works!</html>"),
        lambda: JSONResponse({"choices": []}),
        lambda: JSONResponse({"choices": [{"text": None, "message": {"content": None}}]}),
        lambda: Response(b"\xff\xfe{", media_type="application/json"),
        lambda: JSONResponse([1, 2, 3]),
        lambda: PlainTextResponse("no", status_code=500),
    ]
    return answers[number % len(answers)]()


@contextmanager
def garbage_server() -> Iterator[str]:
    """A double of a model server: it lists a model, and answers whatever it is asked with garbage."""
    asked = iter(range(1_000_000))

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "garbler", "object": "model"}]})

    async def answer(_: Request) -> Response:
        return _garbage(next(asked))

    routes = [
        Route("/v1/models", models),
        *(Route(f"/v1/{path}", answer, methods=["POST"]) for path in ("completions", "chat/completions")),
    ]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()


async def test_a_round_without_one_valid_rollout_is_a_result_that_the_decision_rests_on(tmp_path: Path) -> None:
    with garbage_server() as url:
        settings = Settings(model_url=url, prices=priced(tmp_path, "garbler"))
        async with Session(tmp_path / "home", settings=settings) as session:
            status = await session.start("labels", rules=RULES, campaign=CAMPAIGN)
            rollouts = session.store.trajectories.of(CAMPAIGN)
            events = {each.kind: each.body for each in session.store.ledger.events(CAMPAIGN)}
    assert (status.status, status.reason) == (Status.FINISHED, StopReason.DECIDED.value)
    assert events["round.evaluated"]["valid"] == 0
    assert len(rollouts) == 8
    assert {(each.stop, each.valid) for each in rollouts} == {(RolloutStop.MODEL_FAILED, False)}
    assert (events["lever.decided"]["lever"], events["lever.decided"]["diagnosis"]) == ("stop", "model-failed")
    assert "failed 8 of 8 rollouts" in str(events["lever.decided"]["reason"])


async def test_the_loop_goes_on_after_rounds_without_one_valid_rollout(tmp_path: Path) -> None:
    with garbage_server() as url:
        factory = SharedServer(Endpoint(base_url=url, base_model="garbler"), Lever.SCAFFOLD, Lever.SCAFFOLD)
        settings = Settings(prices=priced(tmp_path, "garbler"))
        async with Session(tmp_path / "home", settings=settings, factory=factory) as session:
            rules = RULES.model_copy(update={"rounds": 2})
            status = await session.start("labels", rules=rules, campaign=CAMPAIGN)
    assert (status.status, status.reason) == (Status.FINISHED, StopReason.ROUNDS.value)
    assert [(row.evaluation.valid, row.evaluation.rollouts) for row in status.rounds] == [(0, 8), (0, 8)]
    assert [row.evaluation.failures for row in status.rounds] == [{"model-failed": 8}] * 2
    assert [row.fate for row in status.rounds] == ["target race inconclusive"] * 2
    assert [row.live for row in status.rounds] == [status.live] * 2


async def test_an_account_without_room_for_another_race_ends_the_campaign_and_opens_the_seal(
    tmp_path: Path, server: Served
) -> None:
    rules = RULES.model_copy(update={"rounds": 3, "races": RULES.races.model_copy(update={"bits": 1.0})})
    async with Session(tmp_path / "home", settings=server.settings(), factory=server.factory()) as session:
        status = await session.start("labels", rules=rules, seed=SEED, campaign=CAMPAIGN)
        assert (status.status, status.reason) == (Status.FINISHED, StopReason.ACCOUNT.value)
        assert [row.fate for row in status.rounds] == ["holdout race inconclusive"]
        assert session.store.ledger.events(CAMPAIGN)[-1].kind == "campaign.revealed"


class Impatient(SharedServer):
    """The real services, but a rollout has two seconds and may print 64 KiB."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.limits = RolloutLimits(
            sandbox=Limits(wall_seconds=2.0, cpu_seconds=60, memory_bytes=1 << 30, processes=16, output_bytes=1 << 16)
        )

    @asynccontextmanager
    async def open(self, home: Home, settings: Settings, store: Store, campaign: Campaign) -> AsyncGenerator[Services]:
        async with super().open(home, settings, store, campaign) as services:

            async def roll_out(
                version: Version,
                items: Sequence[tuple[Item, int]],
                on_done: Callable[[Trajectory], None] | None = None,
            ) -> list[Trajectory]:
                return await run_rollouts(
                    [rollout_of(version, services.task, item, seed) for item, seed in items],
                    store=store.artifacts,
                    endpoint=self._endpoint,
                    sandbox=self.sandbox(),
                    work=home.root / "work" / campaign.id,
                    limits=self.limits,
                    on_done=on_done,
                )

            yield replace(services, rollouts=roll_out)


PARSES_NOT = "def answer(:\n"
LOOPS = "while True:\n    pass\n"
PRINTS = "while True:\n    print('x' * 100_000)\n"


@pytest.mark.parametrize(
    ("agent", "stop"),
    [
        (PARSES_NOT, RolloutStop.CRASHED),
        (LOOPS, RolloutStop.TIMED_OUT),
        (PRINTS, RolloutStop.OUTPUT_LIMIT),
    ],
    ids=["does-not-parse", "loops", "prints"],
)
async def test_a_broken_scaffold_brought_in_at_the_gate_loses_its_race_and_the_campaign_ends(
    home: Path, server: Served, agent: str, stop: RolloutStop
) -> None:
    async with Session(home, settings=server.settings(), factory=Impatient(server.endpoint)) as session:
        before = session.status(CAMPAIGN).live
        request = session.pending(CAMPAIGN)[0].id
        session.edit(CAMPAIGN, request, by="ada", reason="simpler", files={"agent.py": agent})
        status = await session.resume(CAMPAIGN)
        assert (status.status, status.reason) == (Status.FINISHED, StopReason.ROUNDS.value)
        assert status.live == before
        [row] = status.rounds
        assert row.fate == "target race failed"
        assert row.candidate is not None
        attempts = [each for each in session.store.trajectories.of(CAMPAIGN) if each.version == row.candidate.version]
        assert attempts
        assert {each.stop for each in attempts} == {stop}
        assert not any(each.valid for each in attempts)
