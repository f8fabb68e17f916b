"""Promises of the proxy to whoever shares it: who may ask, how much, how fast, and what a hostile client can't do."""

import asyncio
import contextlib
import json
import logging
import os
import re
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import openai
import pytest
from pydantic import SecretStr
from starlette.responses import JSONResponse

from pawl.core import RolloutStop
from pawl.safety import default_sandbox
from pawl.serving.candidates import CandidateLimits, CandidateMeter
from pawl.serving.chat import openai_client
from pawl.serving.policy import Endpoint
from pawl.serving.proxy import PolicyProxy
from pawl.serving.runner import run_rollouts
from pawl.serving.session import CallLimits
from pawl.serving.tools import Tool

from .test_runner import Upstream, rollouts, serving, short, store, version

__all__ = ["store"]

ASK = {"prompt": "hello", "max_tokens": 3}


@asynccontextmanager
async def opened(store, upstream=None, count=1, candidates=None, **limits):
    """A proxy with sessions of one version, as a runner opens them."""
    async with serving(upstream or Upstream()) as endpoint, PolicyProxy(endpoint, candidates) as proxy:
        played = version(store, "")
        yield (
            proxy,
            [await proxy.open(played, seed=n, limits=CallLimits(**limits)) for n in range(count)],
        )


@asynccontextmanager
async def talking(session, token=None):
    transport = httpx.AsyncHTTPTransport(uds=str(session.socket))
    headers = {"Authorization": f"Bearer {token or session.token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://p/v1", headers=headers, timeout=20) as client:
        yield client


async def ask(session, token=None, **more):
    async with talking(session, token) as client:
        reply = await client.post("/completions", json=ASK | more)
    return reply.status_code, reply.json()


async def test_only_a_rollouts_own_token_opens_its_socket(store):
    async with opened(store, count=2) as (_, (one, other)):
        assert (await ask(one))[0] == (await ask(other))[0] == 200
        for token in ("guess", other.token, one.token[:-1], one.token + "x"):
            status, body = await ask(one, token)
            assert status == 401
            assert body["error"]["type"] == "authentication_error"
            assert "not this rollout's" in body["error"]["message"]
        async with talking(one) as client:
            del client.headers["authorization"]
            reply = await client.post("/completions", json=ASK)
            assert (reply.status_code, "no token" in reply.text) == (401, True)
        assert [len(each.steps) for each in (one, other)] == [1, 1]


async def test_a_token_ends_with_its_rollout_and_by_the_clock(store):
    async with opened(store, count=2, seconds=1.5) as (proxy, (one, other)):
        assert (await ask(one))[0] == 200
        proxy.close(one)
        with pytest.raises(httpx.ConnectError):
            await ask(one)
        assert (await ask(other, one.token))[0] == 401
        await asyncio.sleep(1.5)
        status, body = await ask(other)
        assert (status, body["error"]["message"]) == (401, "the token has run out: it was good for 1.5 s")


async def test_an_open_connection_ends_with_its_rollout(store):
    async with opened(store) as (proxy, (session,)), talking(session) as client:
        assert (await client.post("/completions", json=ASK)).status_code == 200
        proxy.close(session)
        with pytest.raises(httpx.HTTPError):
            await client.post("/completions", json=ASK)


async def test_requests_come_at_a_rate_and_a_client_of_openai_waits_for_it(store):
    upstream = Upstream()
    async with opened(store, upstream, burst=3, requests_per_second=0.5) as (_, (session,)):
        replies = [await ask(session) for _ in range(4)]
        assert [status for status, _ in replies] == [200, 200, 200, 429]
        assert replies[3][1]["error"]["code"] == "rate_limit_exceeded"
        assert (await ask(session, "guess"))[0] == 429  # guesses count, too
        where = Endpoint(socket=str(session.socket), api_key=SecretStr(session.token), base_model="m")
        async with openai_client(where).with_options(max_retries=2) as client:
            said = await client.completions.create(model="m", **ASK)
        assert said.choices[0].text
        assert len(upstream.requests) == 4


async def test_a_candidates_rollouts_share_a_rate(store):
    meter = CandidateMeter(CandidateLimits(requests_per_second=0.1, burst=3))
    async with opened(store, count=2, candidates=meter) as (_, (one, other)):
        assert [(await ask(each))[0] for each in (one, other, one)] == [200] * 3
        status, body = await ask(other)
        assert (status, "this candidate's rollouts" in body["error"]["message"]) == (429, True)


async def test_what_is_used_up_is_told_as_openai_tells_it_and_not_asked_again(store):
    async with opened(store, calls=1) as (_, (session,)):
        where = Endpoint(socket=str(session.socket), api_key=SecretStr(session.token), base_model="m")
        async with openai_client(where).with_options(max_retries=5) as client:
            await client.completions.create(model="m", **ASK)
            started = time.monotonic()
            with pytest.raises(openai.RateLimitError, match="used up its 1 calls"):
                await client.completions.create(model="m", **ASK)
        assert time.monotonic() - started < 9  # five waits take more than ten seconds
        assert session.calls == 1


async def test_waiting_requests_are_counted(store):
    upstream, go = Upstream(), asyncio.Event()

    class Slow(Upstream):
        async def complete(self, request):
            await go.wait()
            return await upstream.complete(request)

    async with opened(store, Slow(), concurrent=2) as (_, (session,)):
        waiting = [asyncio.create_task(ask(session)) for _ in range(2)]
        await asyncio.sleep(0.1)
        status, body = await ask(session)
        assert (status, body["error"]["message"].startswith("2 requests")) == (429, True)
        go.set()
        assert [(await each)[0] for each in waiting] == [200, 200]


async def ended(reader):
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def test_connections_are_counted_for_each_rollout(store):
    async with opened(store, count=2, connections=3) as (_, (greedy, other)):
        held = [await asyncio.open_unix_connection(str(greedy.socket)) for _ in range(6)]
        async with asyncio.timeout(5):
            for reader, _ in held[3:]:
                assert await ended(reader)
        assert not any(reader.at_eof() for reader, _ in held[:3])
        assert (await ask(other))[0] == 200
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.2)
        assert (await ask(greedy))[0] == 200


async def exchange(session, *parts, pause=0.0):
    """Send raw bytes until the proxy closes; its answer, and how long that took."""
    reader, writer = await asyncio.open_unix_connection(str(session.socket))
    started, answer = time.monotonic(), bytearray()

    async def listen():
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1 << 16):
                answer.extend(chunk)

    listening = asyncio.create_task(listen())
    for part in parts:
        if not listening.done():
            with contextlib.suppress(ConnectionError):
                writer.write(part)
                await writer.drain()
            await asyncio.sleep(pause)
    async with asyncio.timeout(5):
        await listening
    writer.close()
    return bytes(answer), time.monotonic() - started


async def test_a_client_that_dribbles_is_cut_off_while_others_are_served(store):
    async with opened(store, request_seconds=0.5) as (_, (session,)):
        head = f"POST /v1/completions HTTP/1.1\r\nHost: p\r\nAuthorization: Bearer {session.token}\r\n"
        never = [b"x-a: b\r\n"] * 40
        slow = asyncio.create_task(exchange(session, head.encode(), *never, pause=0.05))
        await asyncio.sleep(0.05)
        assert (await ask(session))[0] == 200
        answer, seconds = await slow
        assert b"400" in answer[:20]
        assert b"did not arrive within 0.5 s" in answer
        assert seconds < 1.9  # forty pieces take two seconds: what has come since didn't start the clock anew
        body = head.encode() + b"Connection: close\r\nContent-Length: 99\r\n\r\n{"
        answer, seconds = await exchange(session, body)
        assert b"408" in answer[:20]
        assert seconds < 2


async def test_headers_are_bounded_and_nonsense_is_answered(store, caplog):
    caplog.set_level(logging.DEBUG)
    async with opened(store) as (_, (session,)):
        start = b"POST /v1/completions HTTP/1.1\r\nHost: p\r\n"
        for bomb in (
            start + b"x: " + b"y" * (1 << 20),
            start + b"".join(b"x-%d: y\r\n" % n for n in range(50_000)),
            b"\x00\xff" * 1000 + b"\r\n\r\n",
            start + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        ):
            answer, _ = await exchange(session, bomb)
            assert answer[:12] in (b"HTTP/1.1 400", b"")  # reset where it still sends
        assert (await ask(session))[0] == 200
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_the_token_has_no_place_in_what_goes_to_the_model(store):
    upstream = Upstream()
    async with opened(store, upstream) as (_, (session,)):
        status, body = await ask(session, prompt=f"my token is {session.token}")
        assert (status, "header alone" in body["error"]["message"]) == (400, True)
        assert session.token not in repr(session)
        assert upstream.requests == []


async def test_tokens_stay_out_of_logs_command_lines_and_trajectories(store, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    agent = """
import os, sys
from client import Policy, answer
policy, token = Policy(), os.environ["PAWL_TOKEN"]
policy.complete("x")
policy.tool("look", {})
print(token, file=sys.stderr)
print(token)
answer({"said": token})
"""
    found = {}

    async def look(arguments):
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment, line = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
            except OSError:
                continue
            token = re.search(rb"PAWL_TOKEN=([^\0]+)", environment)
            found.setdefault("lines", []).append(line.decode(errors="replace"))
            if token and str(tmp_path).encode() in environment:
                found["token"] = token[1].decode()
        raise ValueError("so that something is logged")

    agent = agent.replace('policy.tool("look", {})', 'try: policy.tool("look", {})\nexcept Exception: pass')
    async with serving(Upstream()) as endpoint:
        [trajectory] = await run_rollouts(
            rollouts(version(store, agent), tools=(Tool("look", look),)),
            store=store,
            endpoint=endpoint,
            sandbox=default_sandbox(),
            work=tmp_path / "work",
            limits=short(),
        )
    assert trajectory.output is not None, trajectory.error
    assert len(found["token"]) > 40
    assert any("agent.py" in line for line in found["lines"])
    assert "so that something is logged" in caplog.text
    for where in (trajectory.model_dump_json(), caplog.text, *found["lines"]):
        assert found["token"] not in where
    assert "KEY-7" not in caplog.text


async def test_a_provider_that_repeats_its_key_is_not_repeated(store):
    upstream = Upstream()
    upstream.break_when = lambda body: JSONResponse({"error": "Incorrect API key provided: KEY-7"}, 401)
    async with opened(store, upstream) as (_, (session,)):
        status, body = await ask(session)
        assert status == 502
        assert "Incorrect API key provided: [key]" in str(session.model_error)
        assert "KEY-7" not in str(session.model_error)
        assert "Incorrect" not in str(body)


async def test_the_endpoints_address_is_told_to_the_operator_without_its_secrets_and_to_no_rollout(store):
    url = "http://user:SECRET-1@127.0.0.1:9/v1?api-key=SECRET-2"
    async with PolicyProxy(Endpoint(base_url=url, base_model="base")) as proxy:
        session = await proxy.open(version(store, ""), seed=0)
        replies = [await ask(session) for _ in range(2)]
        assert [status for status, _ in replies] == [502, 502]
        assert "127.0.0.1" not in str(replies)
        assert "http://127.0.0.1:9/v1 " in str(session.model_error)
        assert "SECRET" not in str(session.model_error)


GREEDY = """
from client import Policy, PolicyError, answer
policy, made = Policy(), 0
try:
    while True:
        policy.complete("x", max_tokens=20)
        made += 1
except PolicyError as error:
    answer({"made": made, "status": error.status, "words": str(error)})
"""


async def test_a_candidates_rollouts_share_its_tokens_and_never_pass_them(store, tmp_path):
    meter, upstream = CandidateMeter(CandidateLimits(tokens=200)), Upstream()
    candidate, live = version(store, GREEDY), version(store, GREEDY, temperature=0.5)
    most = []
    upstream.break_when = lambda body: most.append(meter.of(candidate).usage.tokens + meter.of(candidate).held)

    async def run(versions):
        async with serving(upstream) as endpoint:
            return await run_rollouts(
                [rollout for each in versions for rollout in rollouts(each, 4)],
                store=store,
                endpoint=endpoint,
                sandbox=default_sandbox(),
                work=tmp_path / "work",
                limits=short(calls=CallLimits(calls=40)),
                candidates=meter,
            )

    found = await run([candidate, live])
    for played in (candidate, live):
        own = [each for each in found if each.version == played.id]
        assert [each.stop for each in own] == [RolloutStop.ANSWERED] * 4, own[0].error
        assert "this candidate's rollouts" in own[0].output
        together = sum(each.usage.tokens for each in own)
        assert 100 < together == meter.of(played).usage.tokens <= 200
        assert meter.of(played).held == 0
    assert max(most) <= 200
    before = len(upstream.requests)
    [again, *_] = await run([candidate])
    assert json.loads(again.output)["status"] == 429
    assert len(upstream.requests) - before <= 3
    assert meter.of(candidate).calls <= 200 // 4
    assert os.listdir(tmp_path / "work") == []
