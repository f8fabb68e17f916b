"""Promises of the meter, of limits and of the day that they count by."""

from dataclasses import dataclass
from decimal import Decimal

import pytest
from sqlalchemy import text

from pawl.core import ConfigurationError, Database, Usage
from pawl.core.database import metadata
from pawl.core.tables import serialise
from pawl.safety.budget import Budget, Charge, Dimension, EventKind, LimitReached, Limits, Meter, Scope, dollars, shown
from pawl.safety.budget.accounts import balances, require, warn
from pawl.safety.budget.clock import SystemClock, forget_day, today
from pawl.safety.budget.limits import Amount, amount_of
from pawl.safety.budget.meter import usage_table
from pawl.safety.budget.money import NANO, nano_dollars
from pawl.safety.budget.prices import Prices, TokenPrice

from .postgres_fixtures import database, postgres_server  # noqa: F401

DAY = 24 * 3600 * NANO
ROLLOUT = Usage(input_tokens=100, output_tokens=20, verifications=1, cpu_seconds=0.5)
TRAINING = Usage(training_steps=8, cpu_seconds=30.0, gpu_seconds=2.0)
NOTHING = Amount()
TENTH = Decimal("0.1")
PRICES = Prices(TokenPrice(Decimal(1), Decimal(2), Decimal(1), Decimal(2)), Decimal("3.6"), TENTH, "test table")
ROLLOUT_NANO = 100_000 + 40_000 + 500_000
TRAINING_NANO = 30_000_000 + 200_000_000


@dataclass
class SetClock:
    """A double for the machine's clocks, which a test can't set."""

    wall: int = 20_000 * DAY
    since_boot: int = 0
    boot_id: str = "first"

    def monotonic(self) -> int:
        return self.since_boot

    def boot(self) -> str:
        return self.boot_id

    def uptime(self) -> int:
        return self.since_boot

    def utc(self) -> int:
        return self.wall

    def later(self, span: int) -> None:
        self.wall += span
        self.since_boot += span


def spent_on_two_rounds(db: Database) -> Meter:
    meter = Meter(db, PRICES)
    for number in (0, 1):
        meter.add("c1", f"{number}/evaluator", "evaluator", number, ROLLOUT, model="m")
    meter.add("c1", "1/trainer", "trainer", 1, TRAINING, lever="weights", candidate="v")
    meter.add("c2", "1/trainer", "trainer", 1, TRAINING, lever="weights", candidate="")
    return meter


def check(db: Database, budget: Budget, wanted: Amount = NOTHING, charge: Charge | None = None) -> None:
    charge = charge or Charge("c1", 1, "gauntlet", candidate="v")
    with db.write() as connection:
        serialise(connection, "budget")
        require(connection, charge, today(connection, SystemClock()), budget, wanted, tuple(Scope))


def test_usage_adds_up_in_whole_by_round_node_lever_and_model(db: Database):
    meter = spent_on_two_rounds(db)
    assert meter.spent("c1") == ROLLOUT + ROLLOUT + TRAINING
    assert meter.by_round("c1") == {0: ROLLOUT, 1: ROLLOUT + TRAINING}
    assert meter.by_node("c1") == {"evaluator": ROLLOUT + ROLLOUT, "trainer": TRAINING}
    assert meter.by_lever("c1") == {"weights": TRAINING}
    assert meter.by_model("c1") == {"m": ROLLOUT + ROLLOUT}
    assert meter.spent("none") == Usage()


def test_every_amount_of_money_is_exact_and_names_its_table(db: Database):
    meter = spent_on_two_rounds(db)
    assert meter.money("c1") == 2 * ROLLOUT_NANO + TRAINING_NANO
    assert meter.money("c1") == sum(event.nano_dollars for event in meter.events("c1"))
    assert {event.prices for event in meter.events("c1")} == {"test table"}
    assert meter.money("none") == 0


def test_tokens_without_a_price_are_not_counted_for_nothing(db: Database):
    with pytest.raises(ConfigurationError, match=r"120 tokens.*PAWL_PRICES"):
        Meter(db).add("c1", "k", "evaluator", 0, ROLLOUT)
    Meter(db).add("c1", "k", "trainer", 0, Usage(cpu_seconds=1.0))
    assert Meter(db).events("c1")[0].prices.endswith("assumed")


def test_a_step_that_is_run_again_counts_once(db: Database):
    meter = spent_on_two_rounds(db)
    before = meter.spent("c1"), meter.money("c1")
    meter.add("c1", "1/trainer", "trainer", 1, TRAINING + TRAINING, lever="weights")
    assert (meter.spent("c1"), meter.money("c1")) == before


def test_what_was_lost_counts_as_spent_and_not_towards_a_round_and_a_true_cost_counts_nowhere(db: Database):
    meter = spent_on_two_rounds(db)
    before = meter.money("c1")
    meter.add("c1", "lost", "task_agent", 1, ROLLOUT, kind=EventKind.LOST)
    meter.add("c1", "true", "judge", 1, TRAINING, kind=EventKind.SEALED)
    assert meter.money("c1") == before + ROLLOUT_NANO
    assert meter.spent("c1") == ROLLOUT + ROLLOUT + ROLLOUT + TRAINING
    assert meter.by_round("c1")[1] == ROLLOUT + TRAINING


def test_the_events_of_each_scope_add_up_to_its_account(db: Database):
    meter = spent_on_two_rounds(db)
    events = meter.events("c1")
    day = events[0].day

    def total(*kept: bool) -> Amount:
        amounts = [amount_of(each.usage, each.nano_dollars) for each, keep in zip(events, kept, strict=True) if keep]
        return Amount(*map(sum, zip(*amounts, strict=True)))

    with db.read() as connection:
        found = balances(connection, ["campaign/c1", "round/c1/1", "candidate/c1/1", f"day/{day}", "round/c1/7"])
    assert found["campaign/c1"].settled == total(*(True for _ in events))
    assert found["round/c1/1"].settled == total(*(each.round == 1 for each in events))
    assert found["candidate/c1/1"].settled == total(*(each.candidate is not None for each in events))
    assert found[f"day/{day}"].settled == total(*(True for _ in events)).plus(amount_of(TRAINING, TRAINING_NANO))
    assert found["round/c1/7"].settled == Amount()


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(tokens=240), r"Campaign c1 .*budget of tokens: 240 of 240.*--budget-tokens"),
        (Budget(usd=0.23), r"US dollars: \$0\.2313 of \$0\.2300.*--budget-usd"),
        (Budget(verifications=1), r"verifications: 2 of 1.*--budget campaign\.verifications=N"),
        (Budget(training_steps=8, tokens=10**9), r"training steps: 8 of 8"),
        (Budget(gpu_seconds=2), r"GPU-seconds: 2 of 2.*--budget campaign\.gpu_seconds"),
        (Budget(round=Limits(tokens=120)), r"Round 1 of campaign c1 .*tokens: 120 of 120.*--budget round\.tokens=N"),
        (Budget(candidate=Limits(usd=0.1)), r"The candidate of round 1 .*dollars.*--budget candidate\.usd=N"),
        (Budget(day=Limits(training_steps=16)), r"The day 20\d\d-\d\d-\d\d .*steps: 16 of 16.*--budget day\.training"),
    ],
)
def test_a_limit_that_is_reached_is_named_with_its_figures_and_how_to_raise_it(db: Database, budget: Budget, said: str):
    spent_on_two_rounds(db)
    with pytest.raises(LimitReached, match=said):
        check(db, budget)


def test_below_every_limit_and_without_any_the_campaign_goes_on(db: Database):
    spent_on_two_rounds(db)
    check(db, Budget(tokens=241, usd=0.24, verifications=3, training_steps=9, round=Limits(tokens=121)))
    check(db, Budget())
    check(db, Budget(candidate=Limits(usd=0.1)), charge=Charge("c1", 1, "evaluator"))


def test_a_step_that_would_pass_a_limit_is_refused_before_it_is_made(db: Database):
    spent_on_two_rounds(db)
    check(db, Budget(tokens=250), Amount(tokens=10))
    with pytest.raises(LimitReached, match="240 of 250; the next step may take 11") as caught:
        check(db, Budget(tokens=250), Amount(tokens=11))
    assert (caught.value.scope, caught.value.dimension) == (Scope.CAMPAIGN, Dimension.TOKENS)


def test_a_warning_comes_at_80_percent_once_for_each_limit(db: Database):
    from pawl.safety.budget import Warnings

    spent_on_two_rounds(db)
    warnings, charge = Warnings(db), Charge("c1", 1, "gauntlet")

    def noted(budget: Budget) -> list[tuple[Scope, int, int]]:
        with db.write() as connection:
            warn(connection, charge, today(connection, SystemClock()), budget)
        return [(each.scope, each.settled, each.limit) for each in warnings.untold("c1")]

    assert noted(Budget(tokens=301)) == []
    assert noted(Budget(tokens=300)) == [(Scope.CAMPAIGN, 240, 300)]
    assert noted(Budget(tokens=300, round=Limits(tokens=150))) == [
        (Scope.CAMPAIGN, 240, 300),
        (Scope.ROUND, 120, 150),
    ]
    for each in warnings.untold("c1"):
        warnings.tell(each)
    assert noted(Budget(tokens=300, round=Limits(tokens=150))) == []
    assert noted(Budget(tokens=250)) == [(Scope.CAMPAIGN, 240, 250)], "a limit that was moved warns anew"


def test_a_clock_that_jumps_neither_opens_a_new_day_nor_yesterday_again(db: Database):
    clock = SetClock()

    def day() -> str:
        with db.write() as connection:
            return today(connection, clock)

    first = day()
    clock.wall += 40 * DAY
    assert day() == first, "set forward"
    clock.wall -= 80 * DAY
    assert day() == first, "set back"
    clock.later(DAY)
    second = day()
    assert second > first, "a day went by"
    clock.boot_id, clock.since_boot = "second", 0
    assert day() == second, "a reboot with the clock still set back"
    clock.wall = 20_003 * DAY
    clock.boot_id = "third"
    assert day() > second


def test_a_day_that_a_wrong_clock_opened_lasts_until_the_operator_has_it_forgotten(db: Database):
    clock = SetClock()

    def day() -> str:
        with db.write() as connection:
            return today(connection, clock)

    first = day()
    clock.wall += 1_500 * DAY
    clock.boot_id = "ahead"
    ahead = day()
    clock.wall -= 1_499 * DAY
    clock.boot_id = "put right"
    assert day() == ahead
    forget_day(db)
    assert first < day() < ahead
    clock.later(DAY)
    assert first < day() < ahead


def test_limits_are_said_in_one_line_and_nonsense_is_refused():
    budget = Budget(usd=5).with_limit("round.usd=0.5").with_limit("tokens=1000").with_limit("day.seconds=60")
    assert budget == Budget(usd=5, tokens=1000, round=Limits(usd=0.5), day=Limits(seconds=60))
    assert budget.with_limit("usd=none").usd is None
    for wrong in ("usd=-1", "usd=nan", "usd=inf", "year.usd=1", "euros=1", "usd", "tokens=1.5", "round.=1"):
        with pytest.raises(ConfigurationError, match="no limit"):
            Budget().with_limit(wrong)


def test_money_is_rounded_up_and_shown_as_people_write_it():
    assert nano_dollars(0.1) == 100_000_000
    assert nano_dollars(Decimal("1e-12")) == 1
    assert dollars(1_234_567_891) == Decimal("1.234567891")
    assert [shown(nano) for nano in (0, 5_000_000_000, 12_300_000, 1_500)] == [
        "$0.00",
        "$5.00",
        "$0.0123",
        "$0.0000015",
    ]


def test_the_database_of_an_older_pawl_is_brought_up_to_date_and_keeps_what_it_counted(db: Database):
    with db.write() as connection:
        metadata.drop_all(connection)
        connection.execute(
            text(
                "CREATE TABLE usage (campaign VARCHAR NOT NULL, key VARCHAR NOT NULL, node VARCHAR NOT NULL, "
                "round INTEGER NOT NULL, lever VARCHAR, model VARCHAR, input_tokens BIGINT NOT NULL, "
                "output_tokens BIGINT NOT NULL, verifications BIGINT NOT NULL, training_steps BIGINT NOT NULL, "
                "cpu_seconds FLOAT NOT NULL, usd FLOAT NOT NULL, PRIMARY KEY (campaign, key))"
            )
        )
        connection.execute(
            text("INSERT INTO usage VALUES ('old', 'k', 'evaluator', 1, NULL, 'm', 100, 20, 1, 0, 0.5, 0.0)")
        )
    db.create()
    db.create()
    meter = Meter(db, PRICES)
    assert meter.spent("old") == ROLLOUT
    assert [(event.nano_dollars, event.prices) for event in meter.events("old")] == [(0, "")], "priced by nobody"
    meter.add("new", "k", "evaluator", 1, ROLLOUT)
    assert meter.money("new") == ROLLOUT_NANO
    assert "usd" not in usage_table.c


def test_a_table_that_cannot_be_brought_up_to_date_says_so(db: Database):
    with db.write() as connection:
        connection.execute(text("DROP TABLE budget_accounts"))
        connection.execute(text("CREATE TABLE budget_accounts (account VARCHAR PRIMARY KEY)"))
    with pytest.raises(ConfigurationError, match=r"'budget_accounts'.*'dimension'.*another version"):
        db.create()


def test_usage_that_was_stored_with_dollars_is_still_read():
    assert Usage.model_validate_json('{"input_tokens": 3, "usd": 0.0}') == Usage(input_tokens=3)
