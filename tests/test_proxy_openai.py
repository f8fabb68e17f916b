"""A program written for OpenAI's SDK runs unchanged in the sandbox, and reaches its model and nothing else."""

import asyncio
import json
import os
import socket

import pytest
from pydantic import SecretStr

from pawl.core import ArtifactStore, ModelCall, RolloutStop, SandboxUnavailable
from pawl.safety import Isolation, Limits, default_sandbox
from pawl.safety.sandbox.local import why_not
from pawl.serving.runner import Rollout, RolloutLimits, run_rollouts

from .model_fixtures import smollm2, tiny_home, tiny_model_dir, tiny_server
from .test_runner import Upstream, rollouts, serving, short, store, version

__all__ = ["smollm2", "store", "tiny_home", "tiny_model_dir", "tiny_server"]

needs_namespaces = pytest.mark.skipif(bool(why_not(Isolation.BUBBLEWRAP)), reason=why_not(Isolation.BUBBLEWRAP))

PROGRAM = """
import json
from openai import OpenAI

client = OpenAI()
item = json.load(open("item.json"))
messages = [{"role": "user", "content": [{"type": "text", "text": item["payload"]["word"]}]}]
[policy] = client.models.list()
whole = client.chat.completions.create(model="gpt-5", messages=messages, max_completion_tokens=6)
messages += [whole.choices[0].message, {"role": "user", "content": "More."}]
stream = client.chat.completions.create(
    model="gpt-5", messages=messages, max_tokens=5, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
text = "".join(chunk.choices[0].text for chunk in client.completions.create(model="x", prompt="Once", stream=True))
out = {"whole": whole.choices[0].message.content, "said": said, "text": text, "used": chunks[-1].usage.total_tokens}
json.dump({"output": out}, open("output.json", "w"))
"""


@needs_namespaces
async def test_an_unchanged_program_reaches_a_real_model_and_is_recorded(tiny_server, tmp_path):
    store = ArtifactStore(tmp_path / "artifacts")
    played = version(store, PROGRAM).model_copy(update={"base_model": tiny_server.base_model})
    [found] = await run_rollouts(
        [Rollout(version=played, item="i", payload={"word": "Hello"}, seed=3, loopback=True)],
        store=store,
        endpoint=tiny_server,
        sandbox=default_sandbox(Isolation.BUBBLEWRAP),
        work=tmp_path / "work",
        limits=RolloutLimits(),
    )
    assert found.stop is RolloutStop.ANSWERED, found.error
    output = json.loads(found.output)
    calls = [step for step in found.steps if isinstance(step, ModelCall)]
    assert [call.completion for call in calls] == [output["whole"], output["said"], output["text"]]
    assert [call.model for call in calls] == [tiny_server.base_model] * 3
    assert [len(call.token_ids) <= most for call, most in zip(calls[:2], (6, 5), strict=True)] == [True, True]
    assert all(len(call.token_ids) == len(call.logprobs) > 0 for call in calls)
    assert output["used"] == calls[1].usage.tokens
    assert json.loads(calls[1].prompt)[1] == {"role": "assistant", "content": output["whole"]}


ERRORS = """
import json, openai
from openai import OpenAI
said = []
def tried(client, **more):
    try:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], **more)
        said.append("answered")
    except openai.APIStatusError as error:
        said.append([type(error).__name__, error.status_code, error.type])
tried(OpenAI())
tried(OpenAI(), stream=True, max_tokens=0)
tried(OpenAI(), tools=[{"type": "function", "function": {"name": "f"}}])
tried(OpenAI(api_key="sk-guess"))
tried(OpenAI())
try:
    OpenAI().responses.create(model="m", input="x")
except openai.NotFoundError as error:
    said.append(error.type)
json.dump({"output": {"said": said}}, open("output.json", "w"))
"""


@needs_namespaces
async def test_refusals_are_the_errors_that_the_sdk_knows(store, tmp_path):
    limits = short()
    limits = limits.model_copy(update={"calls": limits.calls.model_copy(update={"calls": 1})})
    async with serving(Upstream()) as endpoint:
        [found] = await run_rollouts(
            rollouts(version(store, ERRORS), loopback=True),
            store=store,
            endpoint=endpoint,
            sandbox=default_sandbox(Isolation.BUBBLEWRAP),
            work=tmp_path,
            limits=limits,
        )
    assert found.output is not None, found.error
    assert json.loads(found.output)["said"] == [
        "answered",
        ["BadRequestError", 400, "invalid_request_error"],
        ["BadRequestError", 400, "invalid_request_error"],
        ["AuthenticationError", 401, "authentication_error"],
        ["RateLimitError", 429, "rate_limit_exceeded"],
        "not_found_error",
    ]


MODEST = """
import json, os, pathlib, socket, urllib.request

def post(url, token):
    body = json.dumps({"prompt": "x", "max_tokens": 2}).encode()
    request = urllib.request.Request(url, body, {"Authorization": "Bearer " + token})
    try:
        return urllib.request.urlopen(request, timeout=5).status
    except OSError as error:
        return getattr(error, "code", type(error).__name__)

own = post(os.environ["OPENAI_BASE_URL"] + "/completions", os.environ["OPENAI_API_KEY"])
json.dump({"output": {"own": own}}, open("output.json", "w"))
"""

SNOOP = (
    MODEST
    + """
payload, found, open_ports, made = json.load(open("item.json"))["payload"], [], [], []
key = "KEY" + "-7"
for path in [*pathlib.Path("/proc").glob("[0-9]*/environ"), *pathlib.Path("/proc").glob("[0-9]*/cmdline"),
             *pathlib.Path("/proc").glob("[0-9]*/mem"), pathlib.Path(payload["secret"])]:
    try:
        if key in path.open("rb").read(1 << 16).decode(errors="replace"):
            found.append(str(path))
    except OSError:
        pass
if any(key in value for value in os.environ.values()):
    found.append("environ")
for address in [("127.0.0.1", payload["port"]), ("127.0.0.1", 22), ("127.0.0.2", 8000), ("127.0.0.1", 8001),
                (payload["host"], payload["port"]), ("169.254.169.254", 80), ("8.8.8.8", 53)]:
    stream = socket.socket()
    stream.settimeout(1)
    try:
        stream.connect(address)
        open_ports.append(address)
    except OSError:
        pass
try:
    stream = socket.socket()
    stream.bind(("127.0.0.1", 9000))
    made.append("bound")
except OSError:
    pass
for kind in [(socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_NETLINK, 3),
             (socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_INET, socket.SOCK_STREAM, 262), (socket.AF_PACKET, 3)]:
    try:
        socket.socket(*kind)
        made.append(str(kind))
    except OSError:
        pass
try:
    sockets = [str(path) for path in pathlib.Path(os.environ["PAWL_SOCKET"]).parent.iterdir()]
except PermissionError:
    sockets = []
other = post(os.environ["OPENAI_BASE_URL"] + "/completions", "guessed")
say = {"own": own, "found": found, "open": open_ports, "made": made, "other": other,
       "sockets": [path for path in sockets if path != os.environ["PAWL_SOCKET"]]}
json.dump({"output": say}, open("output.json", "w"))
"""
)


@needs_namespaces
async def test_the_port_leads_to_the_rollouts_own_socket_and_nowhere_else(store, tmp_path):
    secret = tmp_path / "key"
    secret.write_text("KEY-7")
    listener = await asyncio.start_server(lambda reader, writer: writer.close(), "0.0.0.0", 0)
    port = listener.sockets[0].getsockname()[1]
    payload = {"port": port, "host": socket.gethostbyname(socket.gethostname()), "secret": str(secret)}
    played = version(store, SNOOP)
    every = [Rollout(version=played, item=f"i{n}", payload=payload, seed=n, task="t", loopback=True) for n in range(2)]
    async with listener, serving(Upstream()) as endpoint:
        assert endpoint.api_key == SecretStr("KEY-7")
        found = await run_rollouts(
            every,
            store=store,
            endpoint=endpoint,
            sandbox=default_sandbox(Isolation.BUBBLEWRAP),
            work=tmp_path / "work",
            limits=short(),
        )
    for each in found:
        assert each.output is not None, each.error
        assert json.loads(each.output) == {
            "own": 200, "found": [], "open": [], "made": [], "other": 401, "sockets": []
        }  # fmt: skip
        assert len(each.steps) == 1


STUBBORN = """
import json, os, signal, socket, urllib.request
address = ("127.0.0.1", 8000)
held = []
for _ in range(100):  # more than the forwarder and the proxy take
    stream = socket.socket()
    stream.settimeout(0.2)
    try:
        stream.connect(address)
        held.append(stream)
    except OSError:
        break
for stream in held[1:]:
    stream.close()
held[0].sendall(b"POST / HTTP/1.1")
body = json.dumps({"prompt": "x" * (1 << 20), "max_tokens": 2}).encode()
request = urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/completions", body, {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
)
status = urllib.request.urlopen(request, timeout=10).status
for process in os.listdir("/proc"):
    if process.isdigit() and int(process) not in (1, os.getpid()):
        try:
            os.kill(int(process), signal.SIGKILL)
        except PermissionError:
            pass
try:
    urllib.request.urlopen(request, timeout=5)
except OSError:
    pass  # where it could end the forwarder
json.dump({"output": {"status": status}}, open("output.json", "w"))
"""


@needs_namespaces
async def test_a_program_that_floods_or_kills_its_forwarder_harms_itself_alone(store, tmp_path):
    async with serving(Upstream()) as endpoint:
        found = await run_rollouts(
            [*rollouts(version(store, STUBBORN), loopback=True), *rollouts(version(store, MODEST), loopback=True)],
            store=store,
            endpoint=endpoint,
            sandbox=default_sandbox(Isolation.BUBBLEWRAP),
            work=tmp_path,
            limits=short(lag_seconds=1.0),
        )
    assert [each.stop for each in found] == [RolloutStop.ANSWERED] * 2, [each.error for each in found]
    assert json.loads(found[0].output)["status"] == 200
    assert json.loads(found[1].output) == {"own": 200}


async def test_without_a_network_namespace_a_port_is_refused_in_words(store, tmp_path):
    if why_not(Isolation.LANDLOCK):
        pytest.skip(why_not(Isolation.LANDLOCK))
    async with serving(Upstream()) as endpoint:
        with pytest.raises(SandboxUnavailable, match=r"127\.0\.0\.1:8000.*no network namespace.*Unix socket"):
            await run_rollouts(
                rollouts(version(store, PROGRAM), loopback=True),
                store=store,
                endpoint=endpoint,
                sandbox=default_sandbox(Isolation.LANDLOCK),
                work=tmp_path,
                limits=RolloutLimits(sandbox=Limits(wall_seconds=5)),
            )
    assert os.listdir(tmp_path) == ["artifacts"]


@needs_namespaces
async def test_a_program_that_did_not_ask_has_no_port_and_no_tcp(store, tmp_path):
    agent = """
import json, socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    said = "made"
except PermissionError:
    said = "refused"
json.dump({"output": said}, open("output.json", "w"))
"""
    async with serving(Upstream()) as endpoint:
        [found] = await run_rollouts(
            rollouts(version(store, agent)),
            store=store,
            endpoint=endpoint,
            sandbox=default_sandbox(Isolation.BUBBLEWRAP),
            work=tmp_path,
            limits=short(),
        )
    assert found.output == "refused"
