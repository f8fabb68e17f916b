"""Promises of budgets to whoever runs a campaign: what a limit stops, what goes on, and what is said."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel

from pawl.core import ConfigurationError, Conflict, Database, Settings, Usage
from pawl.graph.events import BudgetWarned, Event, Finished, Halted
from pawl.graph.session import Session
from pawl.nodes.decision import Lever
from pawl.nodes.feedback_model import ModelFeedback
from pawl.nodes.state import StopReason
from pawl.nodes.structured import Unusable, ask
from pawl.release import Status
from pawl.safety.budget import (
    Budget,
    Charge,
    EventKind,
    Hold,
    Leases,
    LimitReached,
    Limits,
    Meter,
    Prepaid,
    Scope,
    paying,
)
from pawl.safety.budget.accounts import balances
from pawl.safety.budget.limits import Amount, amount_of
from pawl.safety.budget.meter import COUNTED

from .child_campaign import small_rules
from .feedback_fixtures import dense, evidence, rollouts
from .session_fixtures import CAMPAIGN, SEED, Served, priced, served
from .test_bad_input import MODELS, upstream
from .test_budget import PRICES


class Answer(BaseModel):
    """What a language model is asked for."""

    text: str


RULES = small_rules(items=4, attempts=2, approve="auto")


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


async def ran(session: Session, budget: Budget, *, rounds: int = 1, campaign: str = CAMPAIGN) -> list[Event]:
    rules = RULES.model_copy(update={"rounds": rounds})
    session.create("labels", rules=rules, seed=SEED, campaign=campaign, budget=budget)
    return [event async for event in session.stream(campaign)]


def settled(session: Session, account: str) -> Amount:
    with session.store.db.read() as connection:
        found = balances(connection, [account])[account]
    assert found.reserved == Amount(), "nothing is set aside once nobody works"
    return found.settled


async def test_events_meter_and_accounts_agree_and_a_sealed_race_shows_its_true_cost_after_the_reveal(
    server: Served, tmp_path: Path
) -> None:
    async with Session(tmp_path, settings=server.settings(), factory=server.factory()) as session:
        events = await ran(session, Budget(tokens=10**7, usd=5))
        assert isinstance(events[-1], Finished)
        meter = session.store.meter
        told = meter.events(CAMPAIGN)
        by_kind = {kind: [each for each in told if each.kind is kind] for kind in EventKind}
        counted = [each for kind in COUNTED for each in by_kind[kind]]
        assert meter.money(CAMPAIGN) == sum(each.nano_dollars for each in counted) > 0
        total = Amount()
        for each in counted:
            total = total.plus(amount_of(each.usage, each.nano_dollars))
        account = settled(session, f"campaign/{CAMPAIGN}")
        assert account._replace(seconds=0) == total
        assert account.seconds > 0, "wall-clock time counts"
        assert meter.spent(CAMPAIGN).tokens == total.tokens
        assert {each.prices for each in told} == {"own hardware; cpu $0.04/h assumed"}
        assert by_kind[EventKind.LOST] == []

        rollout = RULES.races.rollout_bill
        bills, true = by_kind[EventKind.BILL], by_kind[EventKind.SEALED]
        assert [each.key.split("/")[2] for each in bills] == ["gauntlet.adversarial", "gauntlet.holdout"]
        assert {each.usage.input_tokens % rollout.input_tokens for each in bills} == {0}, "billed by the rules"
        assert [each.key for each in true] == [f"{each.key}/true" for each in bills]
        assert all(each.usage.tokens > 0 and each.lever == "scaffold" and each.candidate for each in true)
        assert all(each.nano_dollars > 0 for each in true)
        target = next(each for each in told if "gauntlet.target" in each.key)
        assert (target.lever, target.model, target.round) == ("scaffold", "tiny", 1)
        assert target.candidate == session.status(CAMPAIGN).rounds[0].candidate.version  # type: ignore[union-attr]


async def test_a_candidate_that_its_budget_cannot_pay_for_is_let_go_and_the_loop_goes_on(
    server: Served, tmp_path: Path
) -> None:
    budget = Budget(verifications=20, candidate=Limits(tokens=20, training_steps=1))
    factory = server.factory(Lever.SCAFFOLD, Lever.WEIGHTS)
    async with Session(tmp_path, settings=server.settings(), factory=factory) as session:
        events = await ran(session, budget, rounds=2)
        assert isinstance(events[-1], Finished)
        assert events[-1].reason is StopReason.ROUNDS
        fates = [row.fate for row in session.status(CAMPAIGN).rounds]
        assert fates == ["candidate's budget of tokens used up", "candidate's budget of training steps used up"]
        assert not (tmp_path / "runs").exists() or not [*(tmp_path / "runs").iterdir()], "no job was begun"
        assert settled(session, f"candidate/{CAMPAIGN}/1").tokens <= 20
        warned = [event for event in events if isinstance(event, BudgetWarned)]
        assert [(each.scope, each.dimension, each.spent, each.limit) for each in warned] == [
            (Scope.CAMPAIGN, "verifications", "16", "20")
        ]
        [recorded] = [each for each in session.store.ledger.events(CAMPAIGN) if each.kind == "budget.warned"]
        assert recorded.body["limit"] == "20"


async def test_a_round_that_has_used_up_its_budget_ends_early_and_a_day_holds_every_campaign(
    server: Served, tmp_path: Path
) -> None:
    factory = server.factory(Lever.SCAFFOLD, Lever.SCAFFOLD)
    async with Session(tmp_path, settings=server.settings(), factory=factory) as session:
        events = await ran(session, Budget(round=Limits(verifications=8)), rounds=2)
        assert isinstance(events[-1], Finished)
        assert [row.fate for row in session.status(CAMPAIGN).rounds] == ["round's budget of verifications used up"] * 2
        halted = (await ran(session, Budget(day=Limits(verifications=16)), campaign="next"))[-1]
        assert isinstance(halted, Halted)
        assert "The day 20" in halted.reason
        assert "verifications: 16 of 16" in halted.reason
        assert "pawl resume next --budget day.verifications=N" in halted.reason
        assert session.status("next").status is Status.STOPPED
        assert session.store.meter.events("next") == [], "nothing was begun"


async def test_a_model_without_a_price_is_refused_before_the_campaign_starts(tmp_path: Path) -> None:
    with upstream(MODELS, b"{}") as url:
        async with Session(tmp_path / "home", settings=Settings(model_url=url)) as session:
            name = session.create("labels", rules=RULES)
            with pytest.raises(ConfigurationError, match=r"'tiny'.*not known.*PAWL_PRICES"):
                await session.resume(name)
            assert session.store.ledger.events() == []
            assert session.store.meter.events(name) == []
        bad = priced(tmp_path, "tiny")
        bad.write_text(bad.read_text().replace("0,", "-1,", 1))
        async with Session(tmp_path / "home", settings=Settings(model_url=url, prices=bad)) as session:
            with pytest.raises(ConfigurationError, match=r"'tiny' in .*prices\.json.*usd_per_million_input is -1"):
                await session.resume(name)


def chat(*usage: tuple[int, int] | None) -> GenericFakeChatModel:
    """A double for a paid endpoint: it answers what can't be used, and says what that took, or doesn't."""

    def say() -> Iterator[BaseMessage]:
        for told in usage:
            message = AIMessage("no")
            if told is not None:
                message.usage_metadata = {
                    "input_tokens": told[0],
                    "output_tokens": told[1],
                    "total_tokens": sum(told),
                }
            yield message

    return GenericFakeChatModel(messages=say())


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = Database.sqlite(tmp_path / "pawl.sqlite")
    opened.create()
    yield opened
    opened.close()


async def asked(db: Database, limit: Budget, *usage: tuple[int, int] | None) -> tuple[str, Usage]:
    charge = Charge("c", 1, "feedback_agent", model="m")
    with Prepaid(Leases(db), charge, lambda: limit, PRICES, key="decision") as spending, paying(spending):
        decision = await ModelFeedback(chat(*usage)).decide(evidence(rollouts(dense, attempts=4), capable=True))
    return decision.reason, Meter(db).spent("c")


async def test_the_calls_of_the_feedback_agent_are_metered_with_its_model(db: Database) -> None:
    reason, spent = await asked(db, Budget(), (700, 30), (900, 40))
    assert "By the measurements" in reason
    assert spent == Usage(input_tokens=1_600, output_tokens=70)
    [event] = Meter(db).events("c")
    assert (event.node, event.model, event.nano_dollars) == ("feedback_agent", "m", 1_600_000 + 140_000)


async def test_a_call_whose_cost_nobody_tells_counts_at_its_bound(db: Database) -> None:
    _, spent = await asked(db, Budget(), None, (-1_000, -1_000))
    assert spent.output_tokens == 2 * 16_384
    assert spent.input_tokens > 2_000


async def test_a_feedback_agent_that_cannot_be_paid_leaves_the_decision_to_the_measurements(db: Database) -> None:
    reason, spent = await asked(db, Budget(round=Limits(tokens=1_000)))
    assert "By the measurements" in reason
    assert "round.tokens" in reason
    assert spent == Usage()


@pytest.mark.parametrize("limit", [Budget(tokens=1_000), Budget(day=Limits(tokens=1_000))])
async def test_a_used_up_campaign_or_day_halts_also_where_a_language_model_is_asked(
    db: Database, limit: Budget
) -> None:
    with pytest.raises(LimitReached):
        await asked(db, limit)


async def test_a_process_that_may_spend_no_more_is_stopped_where_a_language_model_is_asked() -> None:
    class Lost:
        def reserve(self, most: Usage) -> Hold:
            raise Conflict("the lease was declared lost")

    with paying(Lost()), pytest.raises(Conflict):
        await ask(chat(), Answer, "", "", lambda answer: answer)


@pytest.mark.parametrize(("status", "counts"), [(500, True), (504, True), (503, False), (429, False)])
async def test_a_language_models_server_that_failed_may_have_computed(db: Database, status: int, counts: bool) -> None:
    class Failing(GenericFakeChatModel):
        """A double for an endpoint that fails, in the words of its client."""

        async def ainvoke(self, *_: object, **__: object) -> Any:
            reply = httpx.Response(status, request=httpx.Request("POST", "http://model"))
            raise openai.APIStatusError("no", response=reply, body=None)

    charge = Charge("c", 1, "feedback_agent")
    with Prepaid(Leases(db), charge, lambda: Budget(), PRICES, key="k") as spending, paying(spending):
        assert isinstance(await ask(Failing(messages=iter(())), Answer, "", "", lambda answer: answer), Unusable)
    assert (Meter(db).spent("c").tokens > 16_000) is counts


def test_the_command_line_sets_and_raises_any_limit(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from pawl.cli.main import app
    from pawl.core import Home
    from pawl.graph.store import Store

    home = str(tmp_path / "home")
    with upstream(MODELS, b"{}") as url:
        common = ["--home", home, "--model-url", url]
        options = ["--budget-usd", "5", "--budget", "round.usd=0.5", "--budget", "day.tokens=1000"]
        CliRunner().invoke(app, ["run", "labels", "--campaign", "c", *options, *common])
        CliRunner().invoke(app, ["resume", "c", "--budget-minutes", "2", "--budget", "round.usd=1", *common])
        refused = CliRunner().invoke(app, ["resume", "c", "--budget", "rond.usd=1", *common])
    assert "Scopes: campaign, round, candidate, day" in str(refused.exception)
    store = Store(Home(tmp_path / "home"), None)
    assert store.budget("c") == Budget(usd=5, seconds=120, round=Limits(usd=1), day=Limits(tokens=1000))
    assert json.loads(store.budget("c").model_dump_json())["round"]["usd"] == 1
    store.close()
