"""Time as budgets need it: spans and days that nobody gains or loses by setting a clock.

Spans come from the kernel's monotonic clock. The day comes from the wall clock once a boot; after that it goes on by
the time since boot, which nobody can set. So a clock that jumps forward doesn't open another day's budget, and one
that jumps back doesn't open yesterday's again: days only go forward. On several machines their clocks must agree.
"""

import time
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, select

from ...core.database import Database, metadata
from ...core.process import boot
from ...core.tables import insert_new
from .money import NANO

clock_table = Table(
    "budget_clock",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("boot", String, nullable=False),
    Column("uptime", BigInteger, nullable=False),
    Column("utc", BigInteger, nullable=False),
)


class Clock(Protocol):
    """The clocks of one machine, in nanoseconds."""

    def monotonic(self) -> int:
        """Time that only this process can compare."""
        ...

    def boot(self) -> str:
        """Id of the boot that `uptime` counts from."""
        ...

    def uptime(self) -> int:
        """Time since boot, sleep included."""
        ...

    def utc(self) -> int:
        """The wall clock, since the epoch; anybody may have set it."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> int:
        """See `Clock.monotonic`."""
        return time.monotonic_ns()

    def boot(self) -> str:
        """See `Clock.boot`."""
        return boot()

    def uptime(self) -> int:
        """See `Clock.uptime`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def utc(self) -> int:
        """See `Clock.utc`."""
        return time.time_ns()


def today(connection: Connection, clock: Clock, *, write: bool = True) -> str:
    """The UTC day, as YYYY-MM-DD, by the home's own reckoning.

    Args:
        connection: in a transaction.
        clock: of this machine.
        write: whether the transaction may write down where the reckoning stands.
    """
    this_boot, uptime = clock.boot(), clock.uptime()
    row = connection.execute(select(clock_table)).one_or_none()
    if row is None:
        utc = clock.utc()
    elif row.boot == this_boot:
        utc = row.utc + max(0, uptime - row.uptime)
    else:
        utc = max(clock.utc(), row.utc)
    if not write:
        return _day(utc)
    if row is None:
        insert_new(connection, clock_table, {"id": 1, "boot": this_boot, "uptime": uptime, "utc": utc})
    elif row.boot != this_boot or _day(utc) != _day(row.utc):
        connection.execute(clock_table.update().values(boot=this_boot, uptime=uptime, utc=utc))
    return _day(utc)


def forget_day(db: Database) -> None:
    """Take the wall clock at its word once more: for whoever has put right a clock that was ahead at a boot.

    Days only go forward, so that the home would otherwise stay on that day until the calendar has reached it. What was
    spent on any day stays with that day.
    """
    with db.write() as connection:
        connection.execute(clock_table.delete())


def _day(utc: int) -> str:
    return datetime.fromtimestamp(utc // NANO, UTC).date().isoformat()
