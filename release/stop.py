"""The kill switch: a row that every node asks first.

    switch.stop("reward looks hacked", actor="ada")
    switch.check(campaign)      # raises Stopped
    switch.go(actor="ada")

It fails closed: what can't be read counts as stopped.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Column, Integer, Row, String, Table, select
from sqlalchemy.exc import SQLAlchemyError

from ..core import Database, Stopped
from ..core.database import metadata
from ..core.faults import point
from ..core.tables import utc_now

EVERYTHING = "all"

stops_table = Table(
    "stops",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scope", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("at", String, nullable=False),
    Column("lifted_by", String),
    Column("lifted_at", String),
)


class Stop(BaseModel):
    """One pull of the kill switch."""

    model_config = ConfigDict(frozen=True)

    scope: str
    """A campaign's id, or `all`."""
    reason: str
    actor: str
    at: str
    lifted_by: str | None
    lifted_at: str | None


class KillSwitch:
    """The kill switch of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def stop(self, reason: str, actor: str, scope: str = EVERYTHING) -> None:
        """Stop one campaign, or everything in this home, at the next boundary."""
        values = {"scope": scope, "reason": reason, "actor": actor, "at": utc_now()}
        with self._db.write() as connection:
            connection.execute(stops_table.insert().values(**values))
        point("stop.set")

    def go(self, actor: str, scope: str = EVERYTHING) -> bool:
        """Lift the stops of exactly this scope; tells whether there was one."""
        c = stops_table.c
        with self._db.write() as connection:
            lifted = connection.execute(
                stops_table.update()
                .where(c.scope == scope, c.lifted_at.is_(None))
                .values(lifted_by=actor, lifted_at=utc_now())
            )
        point("stop.lifted")
        return lifted.rowcount > 0

    def check(self, campaign: str | None = None) -> None:
        """Return if work may go on.

        Args:
            campaign: which campaign's work; none asks for the stop of everything alone.

        Raises:
            Stopped: a stop is set, or the row can't be read.
            HomeDamaged: the database is damaged.
        """
        c = stops_table.c
        query = (
            select(stops_table)
            .where(c.scope.in_([EVERYTHING, campaign or EVERYTHING]), c.lifted_at.is_(None))
            .order_by(c.id)
        )
        try:
            with self._db.read() as connection:
                row = connection.execute(query).first()
        except SQLAlchemyError as error:
            raise Stopped(
                f"The kill switch can't be read, which counts as stopped: {error}. `pawl doctor` looks at the database."
            ) from error
        if row is not None:
            what = "Everything in this home" if row.scope == EVERYTHING else f"Campaign {row.scope}"
            option = "" if row.scope == EVERYTHING else f" {row.scope}"
            raise Stopped(
                f"{what} was stopped by {row.actor} at {row.at}: {row.reason}. `pawl go{option}` lifts it; then resume."
            )

    def history(self) -> list[Stop]:
        """Every stop and by whom it was lifted, oldest first."""
        with self._db.read() as connection:
            return [_stop(row) for row in connection.execute(select(stops_table).order_by(stops_table.c.id))]


def _stop(row: Row[Any]) -> Stop:
    return Stop.model_validate(row, from_attributes=True)
