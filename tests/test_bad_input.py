"""An endpoint may be broken in many ways, and an edit may point anywhere: a clear error, or a result like any other."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pawl.core import (
    ConfigurationError,
    Home,
    ModelUnavailable,
    RolloutStop,
    Settings,
)
from pawl.graph.services import LocalFactory
from pawl.graph.session import Session
from pawl.nodes.decision import Decision, Diagnosis, Lever
from pawl.nodes.state import StopReason
from pawl.release import Status
from pawl.serving import adapters
from pawl.serving.policy import Endpoint

from .child_campaign import small_rules
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
    [(b"", 0.0), (OFF_LIST, 0.0), (OFF_LIST, 3.0)],
    ids=["hangs up", "answers off the list", "is slow"],
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
        (b"", "can't be reached"),
        (b"<html>It works!</html>", "not as the OpenAI API does"),
        (b'{"data": []}', "serves no model"),
    ],
    ids=["hangs up", "answers no JSON", "serves nothing"],
)
async def test_an_endpoint_that_is_no_model_server_is_refused_at_the_start(
    tmp_path: Path, models: bytes, message: str
) -> None:
    with upstream(models, b"") as url:
        async with Session(tmp_path, settings=Settings(model_url=url)) as session:
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
