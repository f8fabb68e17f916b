"""What comes in from outside may be broken: the endpoint, a scaffold, a home. It gets a clear error, or is a result."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pawl.core import (
    ArtifactDamaged,
    ArtifactMissing,
    ConfigurationError,
    Home,
    HomeDamaged,
    ModelUnavailable,
    RolloutStop,
    Settings,
)
from pawl.evals.races import Outcome
from pawl.graph.services import LocalFactory
from pawl.graph.session import Session
from pawl.nodes.decision import Decision, Diagnosis, Lever, Operator
from pawl.nodes.editor import Edit
from pawl.nodes.evidence import RoundEvidence
from pawl.nodes.state import StopReason
from pawl.release import Status
from pawl.safety import Limits
from pawl.safety.budget import Budget
from pawl.serving import adapters, runner
from pawl.serving.policy import Endpoint
from pawl.serving.runner import RolloutLimits

from .child_campaign import SharedServer, small_rules
from .session_fixtures import CAMPAIGN, SEED, Served, served

RULES = small_rules(items=2, attempts=2)


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


@contextmanager
def upstream(models: bytes, completion: bytes, seconds: float = 0.0) -> Iterator[str]:
    """A double of a model server that is broken in a planted way; gives its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bytes) -> None:
            if not body:
                self.connection.close()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(models)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(seconds)
            self.answer(completion)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as broken:
        broken.daemon_threads = True
        broken.block_on_close = False
        threading.Thread(target=broken.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{broken.server_port}/v1"
        broken.shutdown()


MODELS = json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model"}]}).encode()
OFF_LIST = json.dumps(
    {"choices": [{"index": 0, "text": " Z", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
).encode()


class Upstream(LocalFactory):
    """The real services, the real rule for decisions, and a given endpoint."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._endpoint = Endpoint(
            base_url=url, api_key=SecretStr("k"), base_model="tiny", is_local=True, timeout_seconds=0.5
        )

    async def endpoint(self, home: Home, settings: Settings) -> Endpoint:
        return self._endpoint


@pytest.mark.parametrize(
    ("completion", "seconds"),
    [(b"", 0.0), (b"<html>It works!</html>", 0.0), (OFF_LIST, 0.0), (OFF_LIST, 3.0)],
    ids=["hangs up", "answers no JSON", "answers off the list", "is slow"],
)
async def test_a_round_whose_endpoint_fails_every_rollout_is_a_result(
    server: Served, tmp_path: Path, completion: bytes, seconds: float
) -> None:
    with upstream(MODELS, completion, seconds) as url:
        async with Session(tmp_path, settings=server.settings(), factory=Upstream(url)) as session:
            status = await session.start("labels", rules=RULES, seed=SEED, campaign=CAMPAIGN)
            assert (status.status, status.reason) == (Status.FINISHED, StopReason.DECIDED)
            attempts = session.store.trajectories.of(CAMPAIGN)
            assert [each.stop for each in attempts] == [RolloutStop.MODEL_FAILED] * 4
            assert {(each.grade, each.valid) for each in attempts} == {(0.0, False)}
            [decided] = [each for each in session.store.ledger.events() if each.kind == "lever.decided"]
            decision = Decision.model_validate({key: decided.body[key] for key in Decision.model_fields})
            assert (decision.lever, decision.diagnosis) == (Lever.STOP, Diagnosis.MODEL_FAILED)
            assert len(decision.evidence) == 4


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (None, "can't be reached"),
        (b"", "can't be reached"),
        (b"<html>It works!</html>", "not as the OpenAI API does"),
        (b'{"data": []}', "serves no model"),
    ],
    ids=["nobody there", "hangs up", "answers no JSON", "serves nothing"],
)
async def test_an_endpoint_that_is_no_model_server_is_refused_at_the_start(
    tmp_path: Path, models: bytes | None, message: str
) -> None:
    with upstream(models or b"", b"") as url:
        settings = Settings(model_url="http://127.0.0.1:9/v1" if models is None else url)
        async with Session(tmp_path, settings=settings) as session:
            name = session.create("labels", rules=RULES)
            with pytest.raises((ModelUnavailable, ConfigurationError), match=message):
                await session.resume(name)
            assert session.store.ledger.events() == []  # and it can be resumed with another endpoint


async def test_an_endpoint_that_does_not_answer_is_given_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "CHECK_SECONDS", 0.2)
    with upstream(MODELS, b"") as url:
        endpoint = Endpoint(base_url=url.replace("/v1", "/slow/v1"), base_model="tiny")
        await adapters.check_endpoint(endpoint)  # it answers on every path
        with pytest.raises(ModelUnavailable, match="doesn't serve 'other'; it serves tiny"):
            await adapters.check_endpoint(endpoint.model_copy(update={"base_model": "other"}))
    with slow_listener() as url, pytest.raises(ModelUnavailable, match="no answer within"):
        await adapters.check_endpoint(Endpoint(base_url=url, base_model="tiny"))


@contextmanager
def slow_listener() -> Iterator[str]:
    """A port where somebody takes the call and says nothing."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


BAD_AGENTS = {
    "does not parse": "def main(:\n",
    "loops for ever": "while True:\n    pass\n",
    "prints a gigabyte": "for _ in range(1024):\n    print('x' * (1 << 20))\n",
    "deletes itself": "import os, sys\nos.remove(sys.argv[0])\n",
    "answers nonsense": "open('output.json', 'w').write('[[[')\n",
}


class BadEditor:
    """A double for the edit alone: one bad agent a round."""

    async def edit(self, scaffold: Mapping[str, bytes], decision: Decision, evidence: RoundEvidence, seed: int) -> Edit:
        agent = list(BAD_AGENTS.values())[evidence.round - 1]
        return Edit(files={"agent.py": agent}, operator=Operator.FILES, summary="as the test says")


class BadScaffolds(SharedServer):
    def editor(self, endpoint: Endpoint) -> Any:
        return BadEditor()


async def test_a_campaign_goes_on_after_scaffolds_that_cannot_work(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = RolloutLimits(sandbox=Limits(wall_seconds=20.0, cpu_seconds=1, memory_bytes=1 << 30, processes=16))
    monkeypatch.setattr(runner, "RolloutLimits", lambda: limits)
    rules = RULES.model_copy(update={"rounds": len(BAD_AGENTS)})
    factory = BadScaffolds(server.endpoint, *[Lever.SCAFFOLD] * len(BAD_AGENTS))
    async with Session(tmp_path, settings=server.settings(), factory=factory) as session:
        status = await session.start("labels", rules=rules, seed=SEED, campaign=CAMPAIGN)
        assert (status.status, status.reason) == (Status.FINISHED, StopReason.ROUNDS)
        assert len(status.rounds) == len(BAD_AGENTS)
        assert all(len(row.races) == 1 and row.races[0].outcome is not Outcome.PASSED for row in status.rounds)
        assert {row.live for row in status.rounds} == {status.live}
        stops = [
            {each.stop for each in session.store.trajectories.of(CAMPAIGN, number, "gauntlet")}
            for number in range(1, len(BAD_AGENTS) + 1)
        ]
    crashed, looping, printing, deleting, nonsense = stops
    assert crashed == {RolloutStop.CRASHED}
    assert looping <= {RolloutStop.TIMED_OUT, RolloutStop.CRASHED}
    assert printing == {RolloutStop.OUTPUT_LIMIT}
    assert deleting <= {RolloutStop.CRASHED, RolloutStop.NO_OUTPUT}
    assert nonsense == {RolloutStop.NO_OUTPUT}


@pytest.mark.parametrize("name", ["pawl.sqlite", "checkpoints.sqlite"])
async def test_a_scribbled_database_is_named(server: Served, tmp_path: Path, name: str) -> None:
    async with Session(tmp_path, settings=server.settings(), factory=server.factory()) as session:
        session.create("labels", rules=RULES, campaign=CAMPAIGN)
    for left in tmp_path.glob(f"{name}-*"):
        left.unlink()
    (tmp_path / name).write_bytes(b"This was a database once. " * 1000)
    with pytest.raises(HomeDamaged, match=rf"{name}.*(?s:.*)backup"):
        async with Session(tmp_path, settings=server.settings(), factory=server.factory()) as session:
            await session.resume(CAMPAIGN)


async def test_a_home_that_is_a_file_is_refused(server: Served, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("mine")
    with pytest.raises(HomeDamaged, match="--home"):
        async with Session(tmp_path / "home", settings=server.settings(), factory=server.factory()):
            pass


async def test_a_damaged_artefact_fails_the_campaign_until_it_is_restored(server: Served, tmp_path: Path) -> None:
    async with Session(tmp_path, settings=server.settings(), factory=server.factory(Lever.STOP)) as session:
        await session.start("labels", rules=RULES, seed=SEED, campaign=CAMPAIGN, budget=Budget(tokens=1))
        live = str(session.status(CAMPAIGN).live)
        rollouts = str(session.store.operations.lookup(f"{CAMPAIGN}/1/task_agent/{live[:16]}"))
        stored = session.store.artifacts.path(rollouts)
        whole = stored.read_bytes()

        stored.chmod(0o600)
        stored.write_bytes(whole.replace(b"labels", b"lables"))
        with pytest.raises(ArtifactDamaged, match=rollouts[:12]):
            await session.resume(CAMPAIGN, budget=Budget())
        assert session.status(CAMPAIGN).status is Status.FAILED
        assert "ArtifactDamaged" in str(session.status(CAMPAIGN).reason)

        stored.unlink()
        with pytest.raises(ArtifactMissing, match=rollouts[:12]):
            await session.resume(CAMPAIGN)

        stored.write_bytes(whole)
        assert (await session.resume(CAMPAIGN)).status is Status.FINISHED


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", ""])
async def test_an_edit_that_leaves_the_scaffold_is_refused_before_it_is_recorded(
    server: Served, tmp_path: Path, path: str
) -> None:
    async with Session(tmp_path, settings=server.settings(), factory=server.factory()) as session:
        session.create("labels", rules=RULES, campaign=CAMPAIGN)
        session.store.decisions.ask(CAMPAIGN, "one", {"action_requests": []})
        with pytest.raises(ConfigurationError, match="no answer at the gate"):
            session.edit(CAMPAIGN, "one", by="ada", reason="oops", files={path: "mine"})
        assert [each.id for each in session.pending(CAMPAIGN)] == ["one"]
