"""Leases: one process runs a campaign at a time.

    with Lease(db, campaign) as lease:
        ...                 # renewed in the background
        lease.check()       # at boundaries: raises if somebody took it over

A lease that has run out may be taken, and so may one whose holder is gone from this machine, so that after
`kill -9` nobody waits.
"""

import math
import threading
import time
from types import TracebackType
from uuid import uuid4

from sqlalchemy import Column, Float, Integer, String, Table, select
from sqlalchemy.exc import SQLAlchemyError

from ..core import Conflict, Database, LeaseLost, PawlError
from ..core.database import metadata
from ..core.faults import point
from ..core.process import ProcessId
from ..core.tables import insert_new, serialise

TRUSTED = 1 / 6
"""Share of a lease's span for which a renewal holds without asking the database: nobody may take it before its end."""

leases_table = Table(
    "leases",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("token", String, nullable=False),
    Column("host", String, nullable=False),
    Column("machine", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", String, nullable=False),
    Column("expires", Float, nullable=False),
)


class Lease:
    """The right to run one campaign, held while the context is open.

    Args:
        db: the database that the competitors share.
        campaign: what to run.
        seconds: how long the lease outlives its last renewal; clocks of the machines must agree much better.
        heartbeat: renew in a background thread, three times in that span.

    Raises:
        Conflict: on entry, another process holds it.
    """

    def __init__(self, db: Database, campaign: str, *, seconds: float = 60.0, heartbeat: bool = True) -> None:
        self._db = db
        self._campaign = campaign
        self._seconds = seconds
        self._heartbeat = heartbeat
        self._token = uuid4().hex
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._renewed = -math.inf
        """By a clock that runs on while the process or the whole machine sleeps: whoever was paused asks."""
        self.lost = False
        """Whether this process knows that another one took it over."""

    def __enter__(self) -> "Lease":
        c = leases_table.c
        started = _now()
        mine = {**ProcessId.own().model_dump(), "token": self._token, "expires": time.time() + self._seconds}
        with self._db.write() as connection:
            serialise(connection, f"lease {self._campaign}")
            if not insert_new(connection, leases_table, {"campaign": self._campaign, **mine}):
                holder = connection.execute(select(leases_table).where(c.campaign == self._campaign)).one()
                left = holder.expires - time.time()
                if left > 0 and not ProcessId.model_validate(holder).is_gone:
                    raise Conflict(
                        f"Campaign {self._campaign} is run by process {holder.pid} on {holder.host}, whose lease has "
                        f"{left:.0f} s to go. Wait for it or end it; `pawl status {self._campaign}` shows where it is."
                    )
                connection.execute(leases_table.update().where(c.campaign == self._campaign).values(**mine))
        self._renewed = started
        point("lease.taken")
        self._ended.clear()
        if self._heartbeat:
            self._thread = threading.Thread(target=self._beat, name=f"lease-{self._campaign}", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        c = leases_table.c
        with self._db.write() as connection:
            connection.execute(leases_table.delete().where(c.campaign == self._campaign, c.token == self._token))

    def check(self) -> None:
        """Return if this process still has the right, which it renews where that was some time ago.

        Raises:
            LeaseLost: somebody took it over after it ran out; what this process still does would be done twice.
        """
        if self.lost:
            raise self._gone()
        if _now() - self._renewed >= TRUSTED * self._seconds:
            self.renew()

    def renew(self) -> None:
        """Extend the lease by its full span.

        Raises:
            LeaseLost: see `check`.
        """
        c = leases_table.c
        started, expires = _now(), time.time() + self._seconds
        with self._db.write() as connection:
            renewed = connection.execute(
                leases_table.update()
                .where(c.campaign == self._campaign, c.token == self._token)
                .values(expires=expires)
            )
        if renewed.rowcount == 0:
            self.lost = True
            raise self._gone()
        self._renewed = started

    def _gone(self) -> LeaseLost:
        return LeaseLost(
            f"The lease on campaign {self._campaign} ran out and another process took it over. This one stops here; "
            f"the campaign goes on there: `pawl status {self._campaign}`."
        )

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            try:
                self.renew()
            except LeaseLost:
                return
            except (PawlError, SQLAlchemyError):
                continue  # the next beat, or the holder's next check, will tell


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
