"""Promises of the runner and its proxy. The model server here is a double that speaks the wire with made-up answers."""

import asyncio
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from pawl.core import ArtifactStore, RolloutStop, Sampling, Stopped, Usage, Version, derive_seed
from pawl.safety import Isolation, Limits, default_sandbox
from pawl.safety.sandbox.local import why_not
from pawl.serving.policy import Endpoint
from pawl.serving.runner import Rollout, RolloutLimits, run_rollouts
from pawl.serving.session import CallLimits
from pawl.serving.tools import Tool, ToolResult

CLIENT = (Path(__file__).parent.parent / "evals" / "scaffolds" / "client.py").read_bytes()

CHOOSER = """
from client import Policy, answer, load_item
item, policy, text = load_item(), Policy(), ""
text = item["payload"]["word"]
for _ in range(3):
    text += policy.choose(text, [" A", " B", " C"], 0.7)
print("done", item["id"])
answer({"text": text})
"""


class Upstream:
    """A double for a model server: answers depend on the request alone; says what it was sent."""

    def __init__(self):
        self.requests, self.headers = [], []
        self.break_when = lambda body: None

    async def complete(self, request):
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        broken = self.break_when(body)
        if broken == "slow":
            await asyncio.sleep(30)
        if broken is not None:
            return broken
        chat = request.url.path.endswith("chat/completions")
        prompt = json.dumps(body["messages"]) if chat else body["prompt"]
        draw = int(hashlib.sha256(f"{prompt}{body['seed']}".encode()).hexdigest(), 16)
        choices = body.get("structured_outputs", {}).get("choice")
        text = choices[draw % len(choices)] if choices else f" word{draw % 97}"
        reply = {"finish_reason": "stop", "token_ids": [draw % 1000]}
        if chat:
            reply |= {"message": {"content": text}, "logprobs": {"content": [{"logprob": -0.5}]}}
        else:
            reply |= {"text": text, "logprobs": {"token_logprobs": [-0.5]}, "prompt_token_ids": [1, 2, 3]}
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        return JSONResponse({"choices": [reply], "usage": usage, "prompt_token_ids": [1, 2, 3]})


@asynccontextmanager
async def serving(upstream, timeout_seconds=20.0):
    folder = tempfile.mkdtemp(prefix="up-")
    path = f"{folder}/s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    paths = ("/v1/completions", "/v1/chat/completions")
    app = Starlette(routes=[Route(each, upstream.complete, methods=["POST"]) for each in paths])
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    task = asyncio.create_task(server._serve([listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield Endpoint(socket=path, base_model="base", api_key=SecretStr("KEY-7"), timeout_seconds=timeout_seconds)
    finally:
        server.should_exit = True
        await task
        shutil.rmtree(folder)


@pytest.fixture(params=[Isolation.BUBBLEWRAP, Isolation.LANDLOCK])
def sandbox(request):
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)
    return default_sandbox(request.param)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


def version(store, agent, **sampling):
    scaffold = store.put_tree({"agent.py": agent.encode(), "client.py": CLIENT, "scaffold.json": b"{}"})
    return Version(scaffold=scaffold, base_model="base", sampling=Sampling(**sampling))


def rollouts(version, count=1, **more):
    return [
        Rollout(version=version, item=f"i{n}", payload={"word": f"w{n}"}, seed=100 + n, task="t", **more)
        for n in range(count)
    ]


def short(wall=20.0, **more):
    return RolloutLimits(sandbox=Limits(wall_seconds=wall, cpu_seconds=20, memory_bytes=1 << 30), **more)


async def run(agent, store, sandbox, tmp_path, upstream=None, count=1, limits=None, **more):
    async with serving(upstream or Upstream()) as endpoint:
        return await run_rollouts(
            rollouts(version(store, agent), count, **more),
            store=store,
            endpoint=endpoint,
            sandbox=sandbox,
            work=tmp_path / "work",
            limits=limits or short(),
        )


async def test_a_rollout_is_recorded_call_by_call_with_what_a_trainer_needs(store, sandbox, tmp_path):
    upstream = Upstream()
    [trajectory] = await run(CHOOSER, store, sandbox, tmp_path, upstream)
    assert trajectory.stop is RolloutStop.ANSWERED, trajectory.error
    *calls, note = trajectory.steps
    assert json.loads(trajectory.output) == {"text": calls[-1].prompt + calls[-1].completion}
    assert [call.kind for call in calls] == ["model"] * 3
    assert calls[1].prompt == calls[0].prompt + calls[0].completion
    assert calls[0].choices == [" A", " B", " C"]
    assert calls[0].completion in calls[0].choices
    assert (calls[0].temperature, calls[0].logprobs, calls[0].prompt_token_ids) == (0.7, [-0.5], [1, 2, 3])
    assert note.text == "done i0\n"
    assert (trajectory.usage.input_tokens, trajectory.usage.output_tokens) == (9, 3)
    assert trajectory.usage.cpu_seconds > 0
    assert len(trajectory.trace_id) == 32
    assert os.listdir(tmp_path / "work") == []


async def test_the_version_and_the_runner_decide_model_seed_and_limits(store, sandbox, tmp_path):
    agent = """
from client import Policy, answer
p = Policy()
p.request("/v1/completions", {"prompt": "x", "model": "other", "seed": 1, "n": 9, "max_tokens": 10**6, "echo": True})
p.chat([{"role": "user", "content": "hello"}])
answer("ok")
"""
    upstream = Upstream()
    [trajectory] = await run(agent, store, sandbox, tmp_path, upstream)
    assert trajectory.output == "ok", trajectory.error
    first, second = upstream.requests
    assert (first["model"], first["n"], first["max_tokens"], "echo" in first) == ("base", 1, 512, False)
    assert [each["seed"] for each in (first, second)] == [derive_seed(100, "call", k) for k in (0, 1)]
    assert first["return_token_ids"]
    assert second["logprobs"] is True
    assert {headers["authorization"] for headers in upstream.headers} == {"Bearer KEY-7"}
    assert "KEY-7" not in trajectory.model_dump_json()


async def test_equal_rollouts_give_equal_trajectories(store, sandbox, tmp_path):
    async def once():
        found = await run(CHOOSER, store, sandbox, tmp_path, count=4)
        return [
            each.model_copy(update={"trace_id": "", "usage": each.usage.model_copy(update={"cpu_seconds": 0})})
            for each in found
        ]

    first = await once()
    assert [each.item for each in first] == ["i0", "i1", "i2", "i3"]
    assert len({each.output for each in first}) > 1
    assert await once() == first


async def test_a_batch_goes_in_lock_step_however_unevenly_its_scaffolds_run(store, sandbox, tmp_path):
    agent = """
import time
from client import Policy, answer, load_item
item, policy = load_item(), Policy()
n = int(item["id"][1:])
for k in range(3 if n else 1):
    time.sleep(0.1 * n)
    policy.complete(f"{n} {k}")
    if n == 2:
        policy.tool("rest", {})
answer("ok")
"""

    async def rest(arguments):
        await asyncio.sleep(0.4)
        return ToolResult({})

    upstream = Upstream()
    tools = (Tool("rest", rest),)
    found = await run(agent, store, sandbox, tmp_path, upstream, count=3, tools=tools, limits=short(lag_seconds=8))
    assert [each.stop for each in found] == [RolloutStop.ANSWERED] * 3
    batches: dict[str, list[tuple[int, int, str]]] = {}
    for headers, body in zip(upstream.headers, upstream.requests, strict=True):
        place = (int(headers["x-pawl-batch-index"]), int(headers["x-pawl-batch-size"]), body["prompt"])
        batches.setdefault(headers["x-pawl-batch"], []).append(place)
    assert [sorted(batch) for batch in batches.values()] == [
        [(0, 3, "0 0"), (1, 3, "1 0"), (2, 3, "2 0")],
        [(0, 2, "1 1"), (1, 2, "2 1")],
        [(0, 2, "1 2"), (1, 2, "2 2")],
    ]


async def test_a_scaffold_that_loops_for_ever_does_not_take_the_others_with_it(store, sandbox, tmp_path):
    agent = "import json\nif json.load(open('item.json'))['id'] == 'i1':\n    while True: pass\n" + CHOOSER
    started = time.monotonic()
    found = await run(agent, store, sandbox, tmp_path, count=3, limits=short(wall=4.0, lag_seconds=1.0))
    answered, timed_out = RolloutStop.ANSWERED, RolloutStop.TIMED_OUT
    assert [each.stop for each in found] == [answered, timed_out, answered], [each.error for each in found]
    assert found[1].usage.cpu_seconds > 0.2
    assert time.monotonic() - started < 15


BAD = {
    "does not parse": ("def (:", RolloutStop.CRASHED, "SyntaxError"),
    "raises": ("raise ValueError('my words')", RolloutStop.CRASHED, "my words"),
    "dies by a signal": ("import os; os.abort()", RolloutStop.CRASHED, "signal 6"),
    "leaves early": ("import os; os._exit(0)", RolloutStop.NO_OUTPUT, "no plain file"),
    "is silent": ("", RolloutStop.NO_OUTPUT, "no plain file"),
    "writes no JSON": ("open('output.json','w').write('{')", RolloutStop.NO_OUTPUT, "can't be used"),
    "writes a number": ("open('output.json','w').write('{\"output\": 3}')", RolloutStop.NO_OUTPUT, "text or object"),
    "writes infinity": ("open('output.json','w').write('{\"output\": {\"a\": 1e999}}')", RolloutStop.NO_OUTPUT, ""),
    "writes half a pair": (r"""open('output.json','w').write('{"output": "\\ud800"}')""", RolloutStop.NO_OUTPUT, ""),
    "nests": ("open('output.json','w').write('['*9**5)", RolloutStop.NO_OUTPUT, "deep"),
    "links": ("import os; os.symlink('/etc/hostname','output.json')", RolloutStop.NO_OUTPUT, "no plain file"),
    "leaves a pipe": ("import os; os.mkfifo('output.json')", RolloutStop.NO_OUTPUT, "no plain file"),
    "writes too much": ("open('output.json','w').write('x'*2**21)", RolloutStop.NO_OUTPUT, "no plain file"),
    "prints without end": ("while True: print('x' * 99999)", RolloutStop.OUTPUT_LIMIT, ""),
    "locks its folder": ("import os; os.makedirs('a/b', mode=0)", RolloutStop.NO_OUTPUT, ""),
}


async def test_whatever_a_scaffold_does_is_a_trajectory(store, sandbox, tmp_path):
    every = [rollouts(version(store, agent))[0] for agent, _, _ in BAD.values()]
    done = []
    async with serving(Upstream()) as endpoint:
        found = await run_rollouts(
            every,
            store=store,
            endpoint=endpoint,
            sandbox=sandbox,
            work=tmp_path / "work",
            limits=short(lag_seconds=1.0),
            on_done=done.append,
        )
    for (name, (_, stop, words)), trajectory in zip(BAD.items(), found, strict=True):
        assert trajectory.stop is stop, (name, trajectory)
        assert words in trajectory.error, (name, trajectory.error)
        assert str(tmp_path) not in trajectory.error
        assert trajectory.output is None
    assert len(done) == len(BAD)
    assert os.listdir(tmp_path / "work") == []


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (PlainTextResponse("<html>sorry</html>"), "can't be used"),
        (JSONResponse({"choices": []}), "choices"),
        (JSONResponse({"choices": [{"text": " D"}]}), "none of the 3 choices"),
        (PlainTextResponse('{"choices": [{"text": " A", "logprobs": {"token_logprobs": [-1e999]}}]}'), "can't be used"),
        (JSONResponse({"error": "boom"}, 500), "status 500"),
        ("slow", "did not answer within 1 s"),
    ],
)
async def test_an_endpoint_that_fails_ends_its_rollouts_and_no_others(store, tmp_path, reply, words):
    upstream = Upstream()
    upstream.break_when = lambda body: reply if body["prompt"].startswith("w1") else None
    async with serving(upstream, timeout_seconds=1) as endpoint:
        found = await run_rollouts(
            rollouts(version(store, CHOOSER), 3),
            store=store,
            endpoint=endpoint,
            sandbox=default_sandbox(),
            work=tmp_path,
            limits=short(),
        )
    answered, failed = RolloutStop.ANSWERED, RolloutStop.MODEL_FAILED
    assert [each.stop for each in found] == [answered, failed, answered], [each.error for each in found]
    assert words in found[1].error


CAREFUL = """
from client import Policy, PolicyError, answer
try:
    Policy().choose("long " * 50, [" A", " B"], 0.7)
except PolicyError as error:
    answer({"text": f"{error.status}: {error}" + Policy().choose("short", [" A", " B"], 0.7)})
"""


async def test_a_request_that_the_endpoint_finds_fault_with_is_the_scaffolds_own_affair(store, tmp_path):
    def refuse(body):
        too_long = {"error": {"message": "maximum context length is 128 tokens"}}
        return JSONResponse(too_long, 400) if len(body["prompt"]) > 128 else None

    for scaffold, stop in (
        (CAREFUL, RolloutStop.ANSWERED),
        (CAREFUL.replace("answer({", "raise SystemExit({"), RolloutStop.CRASHED),
    ):
        upstream = Upstream()
        upstream.break_when = refuse
        [found] = await run(scaffold, store, default_sandbox(), tmp_path, upstream)
        assert found.stop is stop, "never the endpoint's failure"
        assert "maximum context length is 128 tokens" in str(found.output or found.error)


async def test_an_endpoint_that_is_down_is_named(store, tmp_path):
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", base_model="base")
    [found] = await run_rollouts(
        rollouts(version(store, CHOOSER)), store=store, endpoint=endpoint, sandbox=default_sandbox(), work=tmp_path
    )
    assert found.stop is RolloutStop.MODEL_FAILED
    assert "127.0.0.1:9" in found.error


async def test_a_busy_server_is_asked_again(store, tmp_path):
    upstream, refusals = Upstream(), [JSONResponse({}, 503)]
    upstream.break_when = lambda body: refusals.pop() if refusals else None
    [found] = await run(CHOOSER, store, default_sandbox(), tmp_path, upstream)
    assert found.stop is RolloutStop.ANSWERED
    assert len(upstream.requests) == 4


async def test_tools_are_recorded_limited_and_priced(store, sandbox, tmp_path):
    async def double(arguments):
        return ToolResult({"twice": 2 * arguments["x"]}, Usage(verifications=1))

    agent = """
from client import Policy, PolicyError, answer
policy, said = Policy(), []
for arguments in [{"x": 4}, {"x": "yyy"}, {}, {"x": 1}, None]:
    try:
        said.append(policy.tool("no" if arguments is None else "double", arguments or {}))
    except PolicyError as error:
        said.append(error.status)
answer({"said": said})
"""
    [found] = await run(agent, store, sandbox, tmp_path, tools=(Tool("double", double, limit=3),))
    assert json.loads(found.output) == {"said": [{"twice": 8}, {"twice": "yyyyyy"}, 500, 429, 404]}
    assert [step.arguments for step in found.steps] == [{"x": 4}, {"x": "yyy"}, {}]
    assert found.usage.verifications == 2


async def test_what_stops_a_tool_stops_the_run(store, tmp_path):
    async def stopped(arguments):
        raise Stopped("somebody pulled the switch")

    agent = "from client import Policy\nPolicy().tool('t', {})"
    with pytest.raises(Stopped, match="pulled the switch"):
        await run(agent, store, default_sandbox(), tmp_path, count=2, tools=(Tool("t", stopped),))
    assert os.listdir(tmp_path / "work") == []


async def test_calls_and_tokens_are_limited(store, sandbox, tmp_path):
    agent = """
from client import Policy, PolicyError, answer
policy, made = Policy(), 0
try:
    while True:
        policy.complete("x")
        made += 1
except PolicyError as error:
    answer(f"{made} {error.status}")
"""
    [calls] = await run(agent, store, sandbox, tmp_path, limits=short(calls=CallLimits(calls=5)))
    assert calls.output == "5 429"
    upstream = Upstream()
    [tokens] = await run(agent, store, sandbox, tmp_path, upstream, limits=short(calls=CallLimits(tokens=10)))
    assert tokens.output == "3 429"
    assert [each["max_tokens"] for each in upstream.requests] == [10, 6, 2]


async def test_a_request_that_is_not_one_is_refused_in_words(store, sandbox, tmp_path):
    agent = r"""
import http.client, os, socket
from client import answer
said = []
def connect():
    c.sock = socket.socket(socket.AF_UNIX)
    c.sock.connect(os.environ["PAWL_SOCKET"])
c = http.client.HTTPConnection("localhost")
c.connect = connect
def send(path, data, token=None):
    c.request("POST", path, data, {"Authorization": f"Bearer {token or os.environ['PAWL_TOKEN']}"})
    r = c.getresponse()
    said.append([r.status, r.read().decode()[:60]])
send("/v1/completions", b"{}", token="guess")
for data in (b"{", b"[]", b"{}", b'{"prompt": "\ud800"}', b'{"prompt": 3}', b'{"prompt": "a", "tools": [{}]}',
             b'{"prompt": "a", "temperature": NaN}', b'{"prompt": "a", "structured_outputs": {"regex": "a"}}',
             b'{"prompt": "' + b"x" * (3 << 20) + b'"}'):
    send("/v1/completions", data)
send("/v1/embeddings", b"{}")
answer({"said": said})
"""
    upstream = Upstream()
    [found] = await run(agent, store, sandbox, tmp_path, upstream)
    assert [status for status, _ in json.loads(found.output)["said"]] == [401, *[400] * 8, 413, 404]
    assert upstream.requests == []
    assert found.steps == []


async def test_one_rollout_cannot_see_another_or_write_its_scaffold(store, sandbox, tmp_path):
    agent = """
import os
from client import Policy, answer
found = []
policy = Policy()
policy.complete("x")
for path in ("..", "../000000", "../000001"):
    for name in ("item.json", "left"):
        try:
            with open(f"{path}/{name}", "w" if name == "left" else "r") as file:
                found.append(f"{path}/{name}")
        except OSError:
            pass
for name in ("agent.py", "new"):
    try:
        open(os.path.join(os.environ["PAWL_SCAFFOLD"], name), "a")
        found.append(name)
    except OSError:
        pass
policy.complete("y")
answer({"found": found, "cwd": os.path.basename(os.getcwd())})
"""
    found = await run(agent, store, sandbox, tmp_path, count=2)
    for index, each in enumerate(found):
        own = f"../{index:06d}"
        expected = {"found": [f"{own}/item.json", f"{own}/left"], "cwd": f"{index:06d}"}
        assert json.loads(each.output) == expected, each.error


async def test_a_run_that_is_cancelled_leaves_nothing(store, sandbox, tmp_path):
    agent = "import time\ntime.sleep(977)"
    async with serving(Upstream()) as endpoint:
        task = asyncio.create_task(
            run_rollouts(
                rollouts(version(store, agent), 2),
                store=store,
                endpoint=endpoint,
                sandbox=sandbox,
                work=tmp_path / "work",
            )
        )
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert os.listdir(tmp_path / "work") == []
    own = str(tmp_path).encode()
    assert not [pid for pid in filter(str.isdigit, os.listdir("/proc")) if own in _command_line(pid)]


def _command_line(pid):
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


async def test_a_provider_that_does_not_know_the_token_id_field_is_asked_without_it(store, sandbox, tmp_path):
    upstream = Upstream()
    refusal = {"error": {"message": "Unrecognized request argument supplied: return_token_ids"}}
    upstream.break_when = lambda body: JSONResponse(refusal, 400) if "return_token_ids" in body else None
    [trajectory] = await run(CHOOSER, store, sandbox, tmp_path, upstream)
    assert trajectory.stop is RolloutStop.ANSWERED, trajectory.error
    assert ["return_token_ids" in body for body in upstream.requests] == [True, False] * 3
