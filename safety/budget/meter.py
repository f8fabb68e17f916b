"""The meter: every event of spending, and sums over them.

    meter.add(campaign, key=f"{round}/evaluator/{item}", node="evaluator", round=round, usage=trajectory.usage)
    meter.money(campaign)                  # nano-dollars; by_node, by_lever, by_round, by_model give usage

An event counts in the meter and in the accounts of its scopes in one transaction, and once for its key. What was
taken and brought nothing (by a step that a crash ended, or that had to be done again) has events of a kind of its
own: it counts towards every limit, and not towards what a round came to, so that a resumed campaign ends as an
unbroken one does.
"""

from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Float,
    Integer,
    Row,
    String,
    Table,
    func,
    select,
)

from ...core import Database, Usage
from ...core.database import metadata
from ...core.faults import point
from ...core.tables import insert_new, serialise
from ..telemetry import measure, names
from .accounts import Charge, move
from .clock import Clock, SystemClock, today
from .limits import Amount, amount_of
from .money import NANO
from .prices import Prices, hardware_prices

usage_table = Table(
    "usage",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("kind", String, nullable=False, server_default="used"),
    Column("node", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("lever", String),
    Column("model", String),
    Column("candidate", String),
    Column("day", String, nullable=False, server_default=""),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("verifications", BigInteger, nullable=False),
    Column("training_steps", BigInteger, nullable=False),
    Column("cpu_seconds", Float, nullable=False),
    Column("gpu_seconds", Float, nullable=False, server_default="0"),
    Column("nano_dollars", BigInteger, nullable=False, server_default="0"),
    Column("prices", String, nullable=False, server_default=""),
    info={"retired": ("usd",)},
)
"""One row an event. `candidate` is empty while the candidate was still being made, and null for no candidate; `prices`
is the version of the price table, empty where an older Pawl wrote the event and put no price on it."""

_Group = TypeVar("_Group", int, str)
_FIELDS = tuple(Usage.model_fields)


class EventKind(StrEnum):
    """What an event's amount stands for."""

    USED = "used"
    """What a step took."""
    BILL = "bill"
    """A sealed race's fixed bill."""
    LOST = "lost"
    """Taken without a result that was kept: all that a lost lease had drawn, or what had to be done again."""
    SEALED = "sealed"
    """A sealed race's true cost, known since the reveal. It stands beside the bill, and counts nowhere."""


COUNTED = (EventKind.USED, EventKind.BILL, EventKind.LOST)
"""What was spent; the others say something about it."""

KEPT = (EventKind.USED, EventKind.BILL)
"""What was spent on results that were kept: it repeats in equal campaigns, but for the seconds of hardware."""


class UsageEvent(BaseModel):
    """One event of the meter."""

    model_config = ConfigDict(frozen=True)

    campaign: str
    key: str
    kind: EventKind
    node: str
    round: int
    lever: str | None
    model: str | None
    candidate: str | None
    day: str
    usage: Usage
    nano_dollars: int
    prices: str


class Meter:
    """The counters of one database.

    Args:
        db: the database.
        prices: what puts money on usage; by default the hardware's rates alone, which refuse tokens.
        clock: tells the day.
    """

    def __init__(self, db: Database, prices: Prices | None = None, clock: Clock | None = None) -> None:
        self._db = db
        self._prices = prices
        self._clock = clock or SystemClock()

    def add(
        self,
        campaign: str,
        key: str,
        node: str,
        round: int,  # noqa: A002
        usage: Usage,
        *,
        lever: str | None = None,
        model: str | None = None,
        candidate: str | None = None,
        kind: EventKind = EventKind.USED,
    ) -> None:
        """Count what one step took. Idempotent: a key counts once in a campaign, with what came first.

        Raises:
            ConfigurationError: it took something whose price nobody gave.
        """
        charge = Charge(campaign, round, node, lever, model, candidate)
        prices = self._prices or hardware_prices()
        nano = prices.cost(usage)
        with self._db.write() as connection:
            serialise(connection, "budget")
            post(connection, charge, key, kind, usage, nano, prices.version, today(connection, self._clock))
        point("usage.added")

    def reveal(self, campaign: str, key: str, usage: Usage) -> None:
        """Put what a sealed race truly took beside its bill, of the same key; again changes nothing."""
        c = usage_table.c
        prices = self._prices or hardware_prices()
        nano = prices.cost(usage)
        with self._db.write() as connection:
            serialise(connection, "budget")
            bill = connection.execute(select(usage_table).where(c.campaign == campaign, c.key == key)).one_or_none()
            if bill is None:
                return
            charge = Charge(campaign, bill.round, bill.node, bill.lever, bill.model, bill.candidate)
            post(connection, charge, f"{key}/true", EventKind.SEALED, usage, nano, prices.version, bill.day)

    def events(self, campaign: str) -> list[UsageEvent]:
        """Every event, by key."""
        query = select(usage_table).where(usage_table.c.campaign == campaign).order_by(usage_table.c.key)
        with self._db.read() as connection:
            return [_event(row) for row in connection.execute(query)]

    def spent(self, campaign: str) -> Usage:
        """What a campaign took so far, with what was lost."""
        with self._db.read() as connection:
            return _usage(connection.execute(select(*_sums()).where(*_of(campaign, COUNTED))).one())

    def money(self, campaign: str) -> int:
        """Nano-dollars that a campaign cost so far, with what was lost."""
        query = select(func.coalesce(func.sum(usage_table.c.nano_dollars), 0)).where(*_of(campaign, COUNTED))
        with self._db.read() as connection:
            return int(connection.execute(query).scalar_one())

    def by_round(self, campaign: str) -> dict[int, Usage]:
        """What each round took, without what was lost."""
        return self._grouped(campaign, usage_table.c.round, KEPT)

    def by_node(self, campaign: str) -> dict[str, Usage]:
        """What each node took."""
        return self._grouped(campaign, usage_table.c.node)

    def by_lever(self, campaign: str) -> dict[str, Usage]:
        """What was spent on pulling each lever; steps that belong to none are left out."""
        return self._grouped(campaign, usage_table.c.lever)

    def by_model(self, campaign: str) -> dict[str, Usage]:
        """What each model took; steps that name none are left out."""
        return self._grouped(campaign, usage_table.c.model)

    def _grouped(
        self, campaign: str, column: Column[_Group], kinds: tuple[EventKind, ...] = COUNTED
    ) -> dict[_Group, Usage]:
        query = (
            select(column.label("of"), *_sums())
            .where(*_of(campaign, kinds), column.is_not(None))
            .group_by(column)
            .order_by(column)
        )
        with self._db.read() as connection:
            return {row.of: _usage(row) for row in connection.execute(query)}


def post(
    connection: Connection,
    charge: Charge,
    key: str,
    kind: EventKind,
    usage: Usage,
    nano: int,
    prices: str,
    day: str,
) -> bool:
    """Write an event and settle it with its accounts; tells whether it is new. Serialise on "budget" before."""
    new = insert_new(
        connection,
        usage_table,
        {
            "campaign": charge.campaign,
            "key": key,
            "kind": kind.value,
            "node": charge.node,
            "round": charge.round,
            "lever": charge.lever,
            "model": charge.model,
            "candidate": charge.candidate,
            "day": day,
            **usage.model_dump(),
            "nano_dollars": nano,
            "prices": prices,
        },
    )
    if new and kind in COUNTED:
        move(connection, charge.accounts(day).values(), amount_of(usage, nano), Amount())
        _tell(charge, kind, nano)
    return new


def _tell(charge: Charge, kind: EventKind, nano: int) -> None:
    """Count the money of an event in telemetry."""
    told = {names.CAMPAIGN: charge.campaign, names.NODE: charge.node, names.EVENT_KIND: kind.value}
    named = {names.LEVER: charge.lever, names.MODEL: charge.model}
    measure(names.COST, nano / NANO, {**told, **{name: value for name, value in named.items() if value}})


def has_event(connection: Connection, campaign: str, key: str) -> bool:
    """Whether something was counted under a key."""
    c = usage_table.c
    return connection.execute(select(c.key).where(c.campaign == campaign, c.key == key)).first() is not None


def _of(campaign: str, kinds: tuple[EventKind, ...]) -> list[ColumnElement[bool]]:
    return [usage_table.c.campaign == campaign, usage_table.c.kind.in_([kind.value for kind in kinds])]


def _sums() -> list[ColumnElement[Any]]:
    return [func.coalesce(func.sum(usage_table.c[field]), 0).label(field) for field in _FIELDS]


def _usage(row: Row[Any]) -> Usage:
    return Usage.model_validate({field: getattr(row, field) for field in _FIELDS})


def _event(row: Row[Any]) -> UsageEvent:
    plain = {name: getattr(row, name) for name in UsageEvent.model_fields if name != "usage"}
    return UsageEvent.model_validate({**plain, "usage": _usage(row)})
