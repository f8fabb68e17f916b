"""Leases: blocks of a budget that a worker has drawn and spends without asking again.

A lease is a row while it is open; its block is set aside in every account that pays for it. Closing it settles what
was used and gives the rest back, in the transaction that writes the event. One that was lost counts as spent, whole,
with an event that says so. Which are lost is not told by clocks: those of a campaign's run when another run takes the
campaign over, whose right to do so is its `Lease` in the release layer; those of other workers when their process is
gone, or, on another machine, when their heartbeat has stood still for a span of the observer's own monotonic time.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import BigInteger, Column, Connection, Integer, Row, String, Table, select

from ...core import Conflict, Database, Usage
from ...core.database import metadata
from ...core.faults import point
from ...core.process import ProcessId
from ...core.tables import CanonicalJson, insert_new, serialise
from .accounts import Charge, balances, move, require, warn
from .clock import Clock, SystemClock, today
from .limits import Amount, Budget, Dimension, Scope
from .meter import EventKind, has_event, post
from .money import NANO

_LOG = logging.getLogger(__name__)

leases_table = Table(
    "budget_leases",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("campaign", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("node", String, nullable=False),
    Column("lever", String),
    Column("model", String),
    Column("candidate", String),
    Column("day", String, nullable=False),
    Column("granted", CanonicalJson, nullable=False),
    Column("prices", String, nullable=False),
    Column("host", String, nullable=False),
    Column("machine", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", String, nullable=False),
    Column("beat", BigInteger, nullable=False),
)

SHARE = 8
"""A block is at most this part of what is left, so that other workers find something too."""

SILENT_SECONDS = 180
"""How long a heartbeat of another machine stands still before its leases count as lost."""


class LeaseKind(StrEnum):
    """Who holds it, and so what becomes of it."""

    RUN = "run"
    """The process that runs the campaign: lost when another run takes the campaign over."""
    WORKER = "worker"
    """Another process: lost when that is gone."""
    JOB = "job"
    """Nobody: it stands for a thing under way that outlives processes, and is settled by its key."""


@dataclass(frozen=True)
class Terms:
    """What a lease is for; the same from its first block to its end."""

    id: str
    kind: LeaseKind
    charge: Charge
    prices: str
    """Version of the price table."""


class DayTurned(Exception):
    """A new day has begun: the lease's use is to be settled with the old one first."""


class Leases:
    """The leases of one database."""

    def __init__(self, db: Database, clock: Clock | None = None) -> None:
        self.db = db
        self.clock = clock or SystemClock()
        self._own = ProcessId.own()
        self._beats: dict[str, tuple[int, int]] = {}

    def draw(self, terms: Terms, budget: Budget, call: Amount, short: Amount, calls: int, *, first: bool) -> Amount:
        """Set a block aside: for several calls, if that leaves enough to others, else for what is short of one.

        Args:
            terms: of the lease.
            budget: the limits, as they are now.
            call: what one call takes at most.
            short: the part of it that the lease has no room for.
            calls: how many calls the block should be good for.
            first: whether this is the lease's first block.

        Raises:
            LimitReached: a limit has no room for `short`.
            Conflict: the lease was declared lost meanwhile; its holder must stop spending.
            DayTurned: see there; only for a worker's lease.
        """
        with self.db.write() as connection:
            serialise(connection, "budget")
            day = today(connection, self.clock)
            row = self._find(connection, terms.id)
            if row is None and not first:
                raise Conflict(
                    f"A lease on the budget of campaign {terms.charge.campaign} was declared lost, and counts as "
                    "spent: another process goes on with the campaign. This one stops here."
                )
            if row is not None and row.day != day:
                if terms.kind is LeaseKind.WORKER:
                    raise DayTurned
                day = row.day
            accounts = terms.charge.accounts(day)
            fit = _calls(connection, accounts, budget, call)
            require(connection, terms.charge, day, budget, short, tuple(Scope))
            block = short
            if fit is None or fit >= 1:
                block = short.at_least(call.times(calls if fit is None else max(1, min(calls, fit // SHARE))))
            move(connection, accounts.values(), Amount(), block)
            self._grant(connection, terms, row, day, block)
            warn(connection, terms.charge, day, budget)
        point("budget.reserved")
        return block

    def hold(self, terms: Terms, budget: Budget, amount: Amount) -> None:
        """Set an amount aside for a thing under way, once for the lease's id, however often this is called.

        Raises:
            LimitReached: a limit has no room for it, or one is reached, whatever it counts.
        """
        with self.db.write() as connection:
            serialise(connection, "budget")
            if self._find(connection, terms.id) or has_event(connection, terms.charge.campaign, terms.id):
                return
            day = today(connection, self.clock)
            for wanted in (Amount(), amount):  # no limit reached, and room for this
                require(connection, terms.charge, day, budget, wanted, tuple(Scope))
            move(connection, terms.charge.accounts(day).values(), Amount(), amount)
            self._grant(connection, terms, None, day, amount)
        point("budget.reserved")

    def settle(self, terms: Terms, kind: EventKind, key: str, usage: Usage, nano: int, *, opened: bool) -> None:
        """Close a lease: write what was used as an event, and give the rest of the block back.

        Where the key has an event already, the work was done before, and what it took now is lost. What a lease used
        that was declared lost meanwhile is in the event of the loss.
        """
        point("budget.settling")
        with self.db.write() as connection:
            serialise(connection, "budget")
            row = self._find(connection, terms.id)
            if row is None and opened:
                _LOG.warning("The lease %s was declared lost; what it used is counted there.", terms.id)
                return
            day = row.day if row is not None else today(connection, self.clock)
            if row is not None:
                self._give_back(connection, row)
            new = post(connection, terms.charge, key, kind, usage, nano, terms.prices, day)
            if not new and terms.kind is not LeaseKind.JOB:
                post(connection, terms.charge, _of(terms.id), EventKind.LOST, usage, nano, terms.prices, day)
        point("budget.settled")

    def flush(
        self, terms: Terms, number: int, usage: Usage, nano: int, rest: Amount, turn: Budget | None = None
    ) -> None:
        """Write what a lease has used so far as an event, and keep `rest` of its block.

        Args:
            terms: of the lease.
            number: of the flush.
            usage: what was used since the last one.
            nano: its price.
            rest: what stays set aside.
            turn: the limits, where the rest is to go over to the day that has begun.

        Raises:
            Conflict: the lease was declared lost meanwhile.
            LimitReached: the new day has no room for the rest; nothing has changed.
        """
        point("budget.settling")
        with self.db.write() as connection:
            serialise(connection, "budget")
            row = self._find(connection, terms.id)
            if row is None:
                raise Conflict(f"The lease {terms.id} was declared lost, and counts as spent. This process stops here.")
            key = f"{_of(terms.id)}/{number}"
            post(connection, terms.charge, key, EventKind.USED, usage, nano, terms.prices, row.day)
            day = row.day if turn is None else today(connection, self.clock)
            move(connection, terms.charge.accounts(row.day).values(), Amount(), Amount().minus(_granted(row)))
            if turn is not None and rest != Amount():
                require(connection, terms.charge, day, turn, rest, (Scope.DAY,))
            move(connection, terms.charge.accounts(day).values(), Amount(), rest)
            connection.execute(
                leases_table.update().where(leases_table.c.id == terms.id).values(granted=rest._asdict(), day=day)
            )
        point("budget.settled")

    def beat(self, lease: str) -> None:
        """Show that the lease's holder is alive."""
        c = leases_table.c
        with self.db.write() as connection:
            connection.execute(leases_table.update().where(c.id == lease).values(beat=c.beat + 1))

    def take_over(self, campaign: str) -> int:
        """Count what earlier runs of a campaign left open as spent; call it with the campaign's lease in hand.

        Returns:
            How many leases were lost.
        """
        return self._lose(campaign, lambda row: row.kind == LeaseKind.RUN.value)

    def reclaim(self) -> int:
        """Count the leases of workers that are gone as spent.

        Returns:
            How many leases were lost.
        """
        with self.db.read() as connection:
            rows = connection.execute(select(leases_table).where(leases_table.c.kind == LeaseKind.WORKER.value)).all()
        gone = {row.id for row in rows if self._is_gone(row)}
        self._beats = {row.id: self._beats[row.id] for row in rows if row.id in self._beats and row.id not in gone}
        return self._lose(None, lambda row: row.id in gone) if gone else 0

    def _is_gone(self, row: Row[Any]) -> bool:
        holder = ProcessId.model_validate(row)
        if holder.machine == self._own.machine:
            return holder.is_gone
        now = self.clock.monotonic()
        beat, since = self._beats.get(row.id, (row.beat, now))
        if beat != row.beat:
            since = now
        self._beats[row.id] = (row.beat, since)
        return now - since >= SILENT_SECONDS * NANO

    def _lose(self, campaign: str | None, is_lost: Callable[[Row[Any]], bool]) -> int:
        query = select(leases_table).order_by(leases_table.c.id)
        if campaign is not None:
            query = query.where(leases_table.c.campaign == campaign)
        with self.db.write() as connection:
            serialise(connection, "budget")
            lost = [row for row in connection.execute(query) if is_lost(row)]
            for row in lost:
                charge = Charge(row.campaign, row.round, row.node, row.lever, row.model, row.candidate)
                granted = _granted(row)
                self._give_back(connection, row)
                key = f"{_of(row.id)}/lost"
                post(connection, charge, key, EventKind.LOST, _usage(granted), granted.usd, row.prices, row.day)
        if lost:
            point("budget.lost")
        return len(lost)

    def _find(self, connection: Connection, lease: str) -> Row[Any] | None:
        return connection.execute(select(leases_table).where(leases_table.c.id == lease)).one_or_none()

    def _grant(self, connection: Connection, terms: Terms, row: Row[Any] | None, day: str, block: Amount) -> None:
        if row is not None:
            granted = _granted(row).plus(block)
            connection.execute(
                leases_table.update().where(leases_table.c.id == terms.id).values(granted=granted._asdict())
            )
            return
        charge = terms.charge
        insert_new(
            connection,
            leases_table,
            {
                "id": terms.id,
                "kind": terms.kind.value,
                "campaign": charge.campaign,
                "round": charge.round,
                "node": charge.node,
                "lever": charge.lever,
                "model": charge.model,
                "candidate": charge.candidate,
                "day": day,
                "granted": block._asdict(),
                "prices": terms.prices,
                **self._own.model_dump(),
                "beat": 0,
            },
        )

    def _give_back(self, connection: Connection, row: Row[Any]) -> None:
        charge = Charge(row.campaign, row.round, row.node, candidate=row.candidate)
        move(connection, charge.accounts(row.day).values(), Amount(), Amount().minus(_granted(row)))
        connection.execute(leases_table.delete().where(leases_table.c.id == row.id))


def new_lease() -> str:
    """A fresh lease's id."""
    return uuid4().hex


def _of(lease: str) -> str:
    return f"lease/{lease}"


def _granted(row: Row[Any]) -> Amount:
    return Amount(**row.granted)


def _usage(granted: Amount) -> Usage:
    """A lost block as usage; which of its tokens were whose nobody knows, so that all stand as input."""
    return Usage(
        input_tokens=granted.tokens,
        verifications=granted.verifications,
        training_steps=granted.training_steps,
        gpu_seconds=granted.gpu_seconds / NANO,
    )


def _calls(connection: Connection, accounts: Mapping[Scope, str], budget: Budget, call: Amount) -> int | None:
    """How many calls fit under every limit; none where no limit counts what a call takes."""
    limited = [scope for scope in accounts if budget.of(scope).any_limit]
    found = balances(connection, [accounts[scope] for scope in limited]) if limited else {}
    fits: Iterable[int] = [
        room // call.of(dimension)
        for scope in limited
        for dimension, room in found[accounts[scope]].room(budget.of(scope)).items()
        if call.of(dimension)
    ]
    return min(fits, default=None)


assert tuple(Dimension) == Amount._fields
