"""Promises of prepaid leases: no limit is passed, nothing is counted twice, and what is lost counts as spent."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from pawl.core import Conflict, Database, PawlError, Usage
from pawl.safety.budget import Budget, Charge, EventKind, LeaseKind, Leases, LimitReached, Limits, Meter, Prepaid, Scope
from pawl.safety.budget.accounts import accounts_table, balances
from pawl.safety.budget.leases import SILENT_SECONDS, Terms, leases_table
from pawl.safety.budget.limits import Amount, Dimension, amount_of
from pawl.safety.budget.meter import COUNTED
from pawl.safety.budget.money import NANO

from .postgres_fixtures import database, postgres_server  # noqa: F401
from .release_fixtures import dies, race
from .test_budget import DAY, PRICES, SetClock

CALL = Usage(input_tokens=10, output_tokens=10)
CALL_NANO = 30_000
BELOW = Usage(input_tokens=7, output_tokens=2)
CHARGE = Charge("c", 1, "task_agent", model="m")

WORKER = """
import sys
from decimal import Decimal
from pawl.core import BudgetExhausted, Database, Usage
from pawl.safety.budget import Budget, Charge, LeaseKind, Leases, Limits, Prepaid
from pawl.safety.budget.prices import Prices, TokenPrice
prices = Prices(TokenPrice(Decimal(1), Decimal(2), Decimal(1), Decimal(2)), Decimal(0), None, "test table")
url, limit, calls, kind, campaign, key = sys.argv[1:]
budget = Budget(tokens=int(limit), day=Limits(usd=1))
spending = Prepaid(
    Leases(Database(url)), Charge(campaign, 1, "task_agent", model="m"), lambda: budget, prices,
    kind=LeaseKind(kind), key=key or None,
)
print("ready", flush=True)
sys.stdin.readline()
made = 0
with spending:
    try:
        while made < int(calls):
            spending.reserve(Usage(input_tokens=10, output_tokens=10)).settle(Usage(input_tokens=10, output_tokens=10))
            made += 1
    except BudgetExhausted:
        pass
print(made)
"""


def prepaid(db: Database, budget: Budget, charge: Charge = CHARGE, **options: object) -> Prepaid:
    leases = options.pop("leases", None) or Leases(db)
    assert isinstance(leases, Leases)
    return Prepaid(leases, charge, lambda: budget, PRICES, **options)  # type: ignore[arg-type]


def balance(db: Database, account: str = "campaign/c") -> tuple[Amount, Amount]:
    with db.read() as connection:
        found = balances(connection, [account])[account]
    return found.settled, found.reserved


def counted(db: Database, campaign: str = "c") -> Amount:
    """The sum of the events."""
    total = Amount()
    for event in Meter(db).events(campaign):
        if event.kind in COUNTED:
            total = total.plus(amount_of(event.usage, event.nano_dollars))
    return total


def all_settled(db: Database) -> None:
    """Every account equals its events, nothing is set aside, no lease is open."""
    assert balance(db) == (counted(db), Amount())
    with db.read() as connection:
        assert connection.execute(select(leases_table)).all() == []
        assert all(row.reserved == 0 for row in connection.execute(select(accounts_table)))


def test_work_comes_to_one_event_under_its_key_and_the_rest_goes_back(db: Database):
    with prepaid(db, Budget(tokens=10_000), key="work") as spending:
        for _ in range(7):
            spending.reserve(CALL).settle(BELOW)
        spending.reserve(CALL).release()
        assert balance(db)[1].tokens >= 7 * CALL.tokens
        spending.took(Usage(input_tokens=49, output_tokens=14, verifications=3, cpu_seconds=1.0))
    [event] = Meter(db).events("c")
    assert (event.key, event.kind, event.prices) == ("work", EventKind.USED, "test table")
    assert event.usage == Usage(input_tokens=49, output_tokens=14, verifications=3, cpu_seconds=1.0)
    assert event.nano_dollars == 7 * 11_000 + NANO // 1000
    all_settled(db)


def test_the_call_that_finds_no_room_is_refused_before_it_is_made(db: Database):
    with prepaid(db, Budget(tokens=55), key="work") as spending:
        holds = [spending.reserve(CALL), spending.reserve(CALL)]
        with pytest.raises(LimitReached, match=r"tokens: 0 of 55, with 40 more set aside.*may take 20"):
            spending.reserve(CALL)
        holds[0].settle(BELOW)
        spending.reserve(CALL).settle(CALL)  # what the first gave back is enough
        holds[1].settle(CALL)
        with pytest.raises(LimitReached):
            spending.reserve(CALL)
    assert balance(db)[0].tokens == 49
    all_settled(db)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(round=Limits(tokens=100)),
        Budget(day=Limits(tokens=100)),
        Budget(usd=1, candidate=Limits(usd=5 * CALL_NANO / NANO)),
    ],
)
def test_the_narrowest_scope_decides(db: Database, budget: Budget):
    charge = Charge("c", 1, "gauntlet", candidate="v")
    with prepaid(db, budget, charge, key="work") as spending:
        for _ in range(5):
            spending.reserve(CALL).settle(CALL)
        with pytest.raises(LimitReached):
            spending.reserve(CALL)
    all_settled(db)


def test_without_any_limit_a_loss_is_still_counted(db: Database):
    spending = prepaid(db, Budget())
    spending.reserve(CALL).settle(CALL)
    assert Leases(db).take_over("c") == 1
    assert counted(db).tokens >= CALL.tokens
    all_settled(db)


def test_threads_and_tasks_share_one_lease_without_passing_the_limit(db: Database):
    spending = prepaid(db, Budget(tokens=2_000), key="work")
    refused = threading.Event()

    def work() -> int:
        made = 0
        for _ in range(60):
            try:
                hold = spending.reserve(CALL)
            except LimitReached:
                refused.set()
                return made
            hold.settle(CALL)
            made += 1
        return made

    async def tasks() -> int:
        async def one() -> int:
            hold = spending.reserve(CALL)
            await asyncio.sleep(0)
            hold.settle(CALL)
            return 1

        return sum(await asyncio.gather(*(one() for _ in range(20))))

    made = asyncio.run(tasks())
    with ThreadPoolExecutor(4) as pool:
        made += sum(pool.map(lambda _: work(), range(4)))
    spending.close()
    assert refused.is_set()
    assert made == 100
    assert counted(db).tokens == 2_000
    all_settled(db)


def test_processes_spend_one_budget_to_its_end_and_never_beyond(db: Database):
    workers = 5
    arguments = [db.engine.url.render_as_string(hide_password=False), "3010", "1000", LeaseKind.WORKER.value, "c", ""]
    arguments[0] = arguments[0].replace("postgresql+psycopg", "postgresql")
    made = [int(each) for each in race(WORKER, [arguments] * workers)]
    assert sum(made) == 150, "3,010 tokens pay for 150 calls of 20"
    assert counted(db).tokens == 3_000
    all_settled(db)


@pytest.mark.parametrize("fault", ["budget.reserved:2", "budget.settling:1", "budget.settled:1"])
def test_a_kill_between_reserving_and_settling_loses_nothing_and_counts_nothing_twice(tmp_path: Path, fault: str):
    url = f"sqlite:///{tmp_path / 'pawl.sqlite'}"
    db = Database(url)
    db.create()
    program = WORKER.replace("sys.stdin.readline()", "pass")
    assert dies(program, url, "1000", "12", LeaseKind.RUN.value, "c", "work", fault=fault)
    settled, reserved = balance(db)
    assert settled.plus(reserved).tokens <= 1_000
    leases = Leases(db)
    lost = leases.take_over("c")
    assert lost == (0 if fault.startswith("budget.settled") else 1)
    assert leases.take_over("c") == 0
    all_settled(db)
    kinds = [event.kind for event in Meter(db).events("c")]
    assert kinds == [EventKind.LOST if lost else EventKind.USED]
    assert counted(db).tokens >= (8 if fault.startswith("budget.reserved") else 12) * CALL.tokens, "all that was used"
    with prepaid(db, Budget(tokens=10_000), key="work") as again:
        again.reserve(CALL).settle(CALL)
    assert balance(db)[0] == counted(db)
    [work] = [event for event in Meter(db).events("c") if event.key == "work"]
    assert work.usage.tokens == (240 if not lost else 20), "what came first stands; a repetition is counted as lost"
    db.close()


def test_a_lease_that_was_declared_lost_spends_no_more_and_is_not_counted_again(db: Database):
    spending = prepaid(db, Budget(tokens=1_000), key="work")
    spending.reserve(CALL).settle(CALL)
    Leases(db).take_over("c")
    after = counted(db)
    with suppress(Conflict):
        for _ in range(1_000):
            spending.reserve(CALL)
    with pytest.raises(Conflict, match="declared lost"):
        spending.reserve(CALL)
    spending.close()
    assert counted(db) == after
    all_settled(db)


def test_a_worker_that_is_gone_from_this_machine_loses_its_lease_and_a_living_one_keeps_it(db: Database):
    alive = prepaid(db, Budget(tokens=1_000), kind=LeaseKind.WORKER)
    alive.reserve(CALL)
    dead = prepaid(db, Budget(tokens=1_000), kind=LeaseKind.WORKER)
    dead.reserve(CALL)
    c = leases_table.c
    with db.write() as connection:  # as a process would have left it that had this pid before
        connection.execute(leases_table.update().where(c.id == dead._terms.id).values(started="1"))
    assert Leases(db).reclaim() == 1
    assert [event.kind for event in Meter(db).events("c")] == [EventKind.LOST]
    alive.close()
    all_settled(db)


def test_another_machines_worker_is_told_by_its_heartbeat_and_by_nobodys_wall_clock(db: Database):
    clock = SetClock()
    spending = prepaid(db, Budget(tokens=1_000), kind=LeaseKind.WORKER)
    spending.reserve(CALL)
    with db.write() as connection:
        connection.execute(leases_table.update().values(machine="another boot pid:[1]", host="far"))
    observer = Leases(db, clock)
    assert observer.reclaim() == 0
    clock.wall += 1_000 * DAY
    assert observer.reclaim() == 0, "a clock that jumps loses nobody's lease"
    clock.since_boot += (SILENT_SECONDS - 1) * NANO
    observer.beat(spending._terms.id)
    assert observer.reclaim() == 0
    clock.since_boot += (SILENT_SECONDS - 1) * NANO
    assert observer.reclaim() == 0
    clock.since_boot += 2 * NANO
    assert observer.reclaim() == 1
    all_settled(db)


def test_a_workers_lease_goes_over_to_the_next_day_with_what_is_under_way(db: Database):
    clock = SetClock()
    spending = prepaid(db, Budget(day=Limits(tokens=100)), kind=LeaseKind.WORKER, leases=Leases(db, clock))
    for _ in range(4):
        spending.reserve(CALL).settle(CALL)
    under_way = spending.reserve(CALL)
    with pytest.raises(LimitReached, match="The day"):
        spending.reserve(CALL)
    clock.wall -= 30 * DAY
    with pytest.raises(LimitReached):
        spending.reserve(CALL)  # a clock that was set back opens no other day
    clock.later(DAY)
    for _ in range(4):
        spending.reserve(CALL).settle(CALL)
    with pytest.raises(LimitReached):
        spending.reserve(CALL)
    under_way.settle(CALL)
    spending.close()
    days = [event.day for event in Meter(db).events("c")]
    assert len(set(days)) == 2
    assert [balance(db, f"day/{day}")[0].tokens for day in sorted(set(days))] == [80, 100]
    all_settled(db)


def test_what_is_under_way_is_held_and_settled_once_by_its_key(db: Database):
    leases = Leases(db)
    terms = Terms("job", LeaseKind.JOB, Charge("c", 1, "trainer", "weights", candidate=""), "test table")
    most, took = Usage(training_steps=100, cpu_seconds=10.0), Usage(training_steps=8, cpu_seconds=1.0)
    budget = Budget(training_steps=110)
    for _ in range(2):
        leases.hold(terms, budget, amount_of(most, PRICES.most(most)))
    assert balance(db)[1].training_steps == 100
    assert leases.take_over("c") == 0, "it outlives the process that started it"
    with pytest.raises(LimitReached, match="training steps"):
        leases.hold(Terms("another", LeaseKind.JOB, CHARGE, ""), budget, Amount(training_steps=11))
    for _ in range(2):
        leases.settle(terms, EventKind.USED, "job", took, PRICES.cost(took), opened=False)
        leases.hold(terms, budget, amount_of(most, 0))
    assert balance(db)[0].training_steps == 8
    all_settled(db)


class Interleaving:
    """Several workers on one budget, stepped by hypothesis."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.budget = Budget(tokens=700, usd=0.002, round=Limits(tokens=500), day=Limits(tokens=650))
        self.workers: dict[int, Prepaid] = {}
        self.holds: list[tuple[int, object]] = []
        self.works = 0

    def step(self, what: str, worker: int, size: int) -> None:
        charge = Charge("c", worker % 2, "task_agent", candidate="v" if worker % 3 else None)
        if worker not in self.workers:
            self.works += 1
            flushing = worker == 3
            self.workers[worker] = prepaid(self.db, self.budget, charge, key=None if flushing else f"k{self.works % 5}")
        spending = self.workers[worker]
        mine = [hold for owner, hold in self.holds if owner == worker]
        try:
            match what:
                case "reserve":
                    self.holds.append((worker, spending.reserve(Usage(input_tokens=size, output_tokens=size // 2))))
                case "settle" if mine:
                    mine[size % len(mine)].settle(Usage(input_tokens=size % 5))  # type: ignore[attr-defined]
                case "release" if mine:
                    mine[size % len(mine)].release()  # type: ignore[attr-defined]
                case "flush" if worker == 3:
                    spending.flush()
                case "close" | "fail":
                    spending.close(kept=what == "close")
                    self.forget(worker)
                case "crash":  # all workers of this run, as a kill would
                    Leases(self.db).take_over("c")
                    for each in list(self.workers):
                        self.forget(each)
                case "meter":
                    Meter(self.db, PRICES).add("c", f"m{size}", "evaluator", 1, Usage(verifications=size))
                case _:
                    pass
        except (LimitReached, Conflict):
            pass

    def forget(self, worker: int) -> None:
        self.workers.pop(worker, None)
        self.holds = [(owner, hold) for owner, hold in self.holds if owner != worker]

    def check(self) -> None:
        events = Meter(self.db).events("c")
        day = events[0].day if events else ""
        for scope, account in ((Scope.CAMPAIGN, "campaign/c"), (Scope.ROUND, "round/c/1"), (Scope.DAY, f"day/{day}")):
            settled, reserved = balance(self.db, account)
            assert min(reserved) >= 0
            for dimension in (Dimension.TOKENS, Dimension.USD):
                most = self.budget.of(scope).most(dimension)
                assert most is None or settled.of(dimension) + reserved.of(dimension) <= most
        assert balance(self.db)[0] == counted(self.db)
        assert Meter(self.db).money("c") == sum(event.nano_dollars for event in events)


STEPS = st.sampled_from(["reserve"] * 5 + ["settle"] * 4 + ["release", "flush", "close", "fail", "crash", "meter"])


@contextmanager
def fresh(folder: Path) -> Iterator[Database]:
    path = folder / "pawl.sqlite"
    for left in folder.glob("pawl.sqlite*"):
        left.unlink()
    db = Database.sqlite(path)
    db.create()
    try:
        yield db
    finally:
        db.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 3), st.integers(1, 30)), max_size=40))
def test_whatever_happens_in_whatever_order_the_events_add_up_to_the_meter(
    tmp_path: Path, steps: list[tuple[str, int, int]]
):
    with fresh(tmp_path) as db:
        together = Interleaving(db)
        for what, worker, size in steps:
            together.step(what, worker, size)
        together.check()
        for worker in list(together.workers):
            together.step("close", worker, 1)
        together.check()
        all_settled(db)


def test_a_closed_spending_pays_for_nothing_more(db: Database):
    spending = prepaid(db, Budget(), key="work")
    spending.close()
    with pytest.raises(PawlError, match="closed"):
        spending.reserve(CALL)


def test_gpus_of_ones_own_count_while_any_call_is_under_way(db: Database):
    clock = SetClock()
    leases = Leases(db, clock)
    spending = prepaid(db, Budget(gpu_seconds=20), key="work", leases=leases, gpus=2)
    first = spending.reserve(CALL)
    clock.later(3 * NANO)
    second = spending.reserve(CALL)
    clock.later(2 * NANO)
    first.settle(CALL)
    clock.later(1 * NANO)
    second.settle(CALL)
    clock.later(100 * NANO)  # nobody calls
    third = spending.reserve(CALL)
    clock.later(4 * NANO)
    with pytest.raises(LimitReached, match="GPU-seconds"):
        spending.reserve(CALL)
    third.settle(CALL)
    spending.close()
    [event] = Meter(db).events("c")
    assert event.usage.gpu_seconds == 20.0
    assert event.nano_dollars == 3 * CALL_NANO + 2 * NANO
    all_settled(db)
