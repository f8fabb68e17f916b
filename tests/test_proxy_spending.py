"""Promises of the proxy about money: held before each call, settled after, and never a call that can't be paid."""

import json
from dataclasses import dataclass, field

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from pawl.core import BudgetExhausted, RolloutStop, Stopped, Usage
from pawl.safety import default_sandbox
from pawl.serving.policy import Endpoint
from pawl.serving.runner import run_rollouts
from pawl.serving.session import CallLimits
from pawl.serving.tools import Tool, ToolResult

from .test_runner import Upstream, rollouts, serving, short, store, version

__all__ = ["store"]

ONE_CALL = """
from client import Policy, PolicyError, answer
try:
    answer(Policy().complete("grüße", max_tokens=7))
except PolicyError as error:
    answer({"status": error.status, "words": str(error)})
"""


@dataclass
class Purse:
    """A budget of tokens in memory that keeps a book."""

    tokens: int = 10**9
    error: Exception | None = None
    held: list[Usage] = field(default_factory=list)
    book: list[Usage | None] = field(default_factory=list)
    told: list[Usage] = field(default_factory=list)

    def took(self, usage):
        self.told.append(usage)

    def reserve(self, most):
        if self.error is not None:
            raise self.error
        if self.spent + most.tokens > self.tokens:
            raise BudgetExhausted(f"{self.tokens} tokens are spent")
        self.held.append(most)
        return Held(self)

    @property
    def spent(self):
        return sum(each.tokens for each in self.book if each is not None)


@dataclass
class Held:
    purse: Purse

    def settle(self, usage):
        self.purse.book.append(usage)

    def release(self):
        self.purse.book.append(None)


async def run(store, tmp_path, purse, upstream=None, agent=ONE_CALL, endpoint=None, timeout_seconds=20.0, wall=20.0):
    async with serving(upstream or Upstream(), timeout_seconds) as up:
        return await run_rollouts(
            rollouts(version(store, agent)),
            store=store,
            endpoint=endpoint or up,
            sandbox=default_sandbox(),
            work=tmp_path / "work",
            limits=short(wall),
            spending=purse,
        )


async def test_what_a_call_can_use_is_held_before_it_and_what_it_used_is_settled(store, tmp_path):
    purse, seen = Purse(), []
    upstream = Upstream()
    upstream.break_when = lambda body: seen.append((len(purse.held), len(purse.book)))
    [found] = await run(store, tmp_path, purse, upstream)
    assert found.stop is RolloutStop.ANSWERED, found.error
    assert seen == [(1, 0)]
    assert purse.held == [Usage(input_tokens=len("grüße".encode()) + 1, output_tokens=7)]
    assert purse.book == [found.usage.model_copy(update={"cpu_seconds": 0.0})]


@pytest.mark.parametrize(
    ("reply", "counts"),
    [
        (JSONResponse({"error": "no"}, 503), False),
        (JSONResponse({"error": "no"}, 401), False),
        (JSONResponse({"error": "no"}, 500), True),
        (JSONResponse({"error": "no"}, 504), True),
        (PlainTextResponse("<html>"), True),
        (JSONResponse({"choices": []}), True),
        ("slow", True),
    ],
)
async def test_a_failed_call_counts_in_full_unless_the_server_turned_it_away(store, tmp_path, reply, counts):
    purse, upstream = Purse(), Upstream()
    upstream.break_when = lambda body: reply
    [found] = await run(store, tmp_path, purse, upstream, timeout_seconds=0.5)
    assert found.stop is RolloutStop.MODEL_FAILED
    assert purse.book == [purse.held[0] if counts else None]


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"usage": None},
        {"usage": {}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
        {"usage": {"prompt_tokens": -1_000_000, "completion_tokens": -1_000_000}},
        {"usage": {"prompt_tokens": 8, "completion_tokens": 10**12}},
        {"usage": {"prompt_tokens": 8, "completion_tokens": 5, "cpu_seconds": -1.0}},
        {"usage": {"prompt_tokens": 8, "completion_tokens": 5, "cpu_seconds": "nan"}},
    ],
)
async def test_a_reply_that_hides_what_it_took_counts_at_its_bound(store, tmp_path, usage):
    purse, upstream = Purse(), Upstream()
    upstream.break_when = lambda body: JSONResponse({"choices": [{"text": "x" * 400}], **usage})
    [found] = await run(store, tmp_path, purse, upstream)
    assert found.stop is RolloutStop.MODEL_FAILED
    assert purse.book == purse.held
    assert purse.spent > 0


async def test_a_call_that_outlives_its_rollout_is_settled_before_the_run_returns(store, tmp_path):
    purse, upstream = Purse(), Upstream()
    upstream.break_when = lambda body: "slow"
    [found] = await run(store, tmp_path, purse, upstream, wall=1.0)
    assert found.stop is RolloutStop.TIMED_OUT
    assert len(purse.held) == 1
    assert purse.book == purse.held


async def test_a_server_that_is_down_costs_nothing(store, tmp_path):
    purse = Purse()
    down = Endpoint(base_url="http://127.0.0.1:9/v1", base_model="base")
    [found] = await run(store, tmp_path, purse, endpoint=down)
    assert found.stop is RolloutStop.MODEL_FAILED
    assert purse.book == [None]


MANY_CALLS = """
from client import Policy
policy = Policy()
for _ in range(9):
    policy.complete("grüße", max_tokens=7)
"""


async def test_a_call_that_cannot_be_paid_is_not_made_and_ends_the_run(store, tmp_path):
    purse, upstream = Purse(tokens=25), Upstream()
    with pytest.raises(BudgetExhausted, match="25 tokens"):
        await run(store, tmp_path, purse, upstream, agent=MANY_CALLS)
    assert len(upstream.requests) == len(purse.book) == 3
    assert purse.spent <= 25


async def test_whatever_else_stops_the_budget_stops_the_run(store, tmp_path):
    upstream = Upstream()
    with pytest.raises(Stopped, match="the switch"):
        await run(store, tmp_path, Purse(error=Stopped("the switch")), upstream, agent=MANY_CALLS)
    assert upstream.requests == []


VERIFIER = """
from client import Policy
policy = Policy()
while True:
    policy.tool("verify", {})
    policy.complete("grüße", max_tokens=7)
"""


async def test_what_rollouts_took_before_a_stop_is_told_though_none_of_them_ended(store, tmp_path):
    async def verify(arguments):
        return ToolResult({}, Usage(verifications=1))

    purse, made = Purse(tokens=60), rollouts(version(store, VERIFIER), 2, tools=[Tool("verify", verify)])
    async with serving(Upstream()) as up:
        with pytest.raises(BudgetExhausted):
            await run_rollouts(
                made, store=store, endpoint=up, sandbox=default_sandbox(), work=tmp_path, limits=short(), spending=purse
            )
    assert len(purse.told) == 2
    assert sum(each.verifications for each in purse.told) >= len(purse.held) >= 2
    assert sum(each.tokens for each in purse.told) == purse.spent


SPENDTHRIFT = """
from client import Policy, PolicyError, answer
policy, made = Policy(), 0
try:
    while True:
        policy.complete("grüße", max_tokens=7)
        made += 1
except PolicyError as error:
    answer({"made": made, "status": error.status, "words": str(error)})
"""


@pytest.mark.parametrize(("most", "calls"), [((30, 1_000), 8), ((1_000, 3), 3), ((7, 9), 0)])
async def test_a_rollout_never_passes_what_its_calls_may_use_of_input_or_of_output(store, tmp_path, most, calls):
    bill = Usage(input_tokens=most[0], output_tokens=most[1])
    upstream, sent = Upstream(), []
    upstream.break_when = lambda body: sent.append(body["max_tokens"])
    async with serving(upstream) as up:
        [found] = await run_rollouts(
            rollouts(version(store, SPENDTHRIFT)),
            store=store,
            endpoint=up,
            sandbox=default_sandbox(),
            work=tmp_path,
            limits=short(calls=CallLimits(most=bill)),
        )
    said = json.loads(found.output)
    assert (said["made"], said["status"], "too few" in said["words"]) == (calls, 429, True)
    assert sent == [min(7, bill.output_tokens - used) for used in range(calls)]
