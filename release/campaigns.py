"""Campaigns: what runs in this home, and what its rounds came to.

campaigns.create("c1", task="trimul", seed=7, settings={}, fingerprint=digest, schema_version=1)
campaigns.record_round("c1", 0, {"lever": "scaffold", ...})
campaigns.set_status("c1", Status.WAITING)
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlalchemy import BigInteger, Column, Integer, Row, String, Table, select

from ..core import Conflict, Database, NotFound
from ..core.database import metadata
from ..core.faults import point
from ..core.tables import CanonicalJson, insert_new, utc_now

campaigns_table = Table(
    "campaigns",
    metadata,
    Column("id", String, primary_key=True),
    Column("task", String, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("settings", CanonicalJson, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", String),
    Column("created", String, nullable=False),
    Column("updated", String, nullable=False),
)

rounds_table = Table(
    "rounds",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("record", CanonicalJson, nullable=False),
)


class Status(StrEnum):
    """Where a campaign is."""

    RUNNING = "running"
    """A process works on it, or died at it: `pawl resume` goes on."""
    WAITING = "waiting"
    """For a person."""
    PARKED = "parked"
    """For a training job; `pawl resume` or `pawl work` goes on with it."""
    STOPPED = "stopped"
    """By the kill switch, a budget or a signal; it can be resumed."""
    FINISHED = "finished"
    FAILED = "failed"
    """By an error; the reason says which, and it can be resumed once that is mended."""


class Campaign(BaseModel):
    """One run of the loop."""

    model_config = ConfigDict(frozen=True)

    id: str
    task: str
    seed: int
    settings: dict[str, JsonValue]
    """What it was started with."""
    fingerprint: str
    """Digest of the graph it was started with."""
    schema_version: int
    status: Status
    reason: str | None
    """Why it has this status, where that needs saying."""
    created: str
    updated: str


class Campaigns:
    """The campaigns of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(
        self,
        campaign: str,
        *,
        task: str,
        seed: int,
        settings: dict[str, JsonValue],
        fingerprint: str,
        schema_version: int,
    ) -> Campaign:
        """Register a campaign as running; the same one again is returned as it stands.

        Raises:
            Conflict: the id is taken by a campaign that was started otherwise.
        """
        start: dict[str, JsonValue] = {
            "task": task,
            "seed": seed,
            "settings": settings,
            "fingerprint": fingerprint,
            "schema_version": schema_version,
        }
        now = utc_now()
        row = {"id": campaign, **start, "status": Status.RUNNING, "created": now, "updated": now}
        with self._db.write() as connection:
            insert_new(connection, campaigns_table, row)
        point("campaign.created")
        there = self.get(campaign)
        differing = [name for name, value in start.items() if getattr(there, name) != value]
        if differing:
            raise Conflict(
                f"A campaign {campaign!r} of {there.task!r} was started on {there.created} with another "
                f"{', '.join(differing)}. Resume that one, or start this one under another id."
            )
        return there

    def get(self, campaign: str) -> Campaign:
        """Look a campaign up.

        Raises:
            NotFound: there is none with this id.
        """
        with self._db.read() as connection:
            row = connection.execute(select(campaigns_table).where(campaigns_table.c.id == campaign)).first()
        if row is None:
            raise NotFound(f"No campaign {campaign!r} in this home. `pawl history` lists those there are.")
        return _campaign(row)

    def all(self, *, task: str | None = None, status: Status | None = None) -> list[Campaign]:
        """The campaigns of this home, oldest first."""
        c = campaigns_table.c
        query = select(campaigns_table).order_by(c.created, c.id)
        if task is not None:
            query = query.where(c.task == task)
        if status is not None:
            query = query.where(c.status == status)
        with self._db.read() as connection:
            return [_campaign(row) for row in connection.execute(query)]

    def set_status(self, campaign: str, status: Status, reason: str | None = None) -> None:
        """Say where a campaign is, and why.

        Raises:
            NotFound: there is none with this id.
        """
        with self._db.write() as connection:
            updated = connection.execute(
                campaigns_table.update()
                .where(campaigns_table.c.id == campaign)
                .values(status=status, reason=reason, updated=utc_now())
            )
        if updated.rowcount == 0:
            raise NotFound(f"No campaign {campaign!r} in this home, so it can't become {status}.")
        point("campaign.status")

    def record_round(self, campaign: str, round: int, record: dict[str, JsonValue]) -> None:  # noqa: A002
        """Write what a round came to; a later record of the same round replaces it."""
        c = rounds_table.c
        with self._db.write() as connection:
            values = {"campaign": campaign, "round": round, "record": record}
            if not insert_new(connection, rounds_table, values):
                connection.execute(
                    rounds_table.update().where(c.campaign == campaign, c.round == round).values(record=record)
                )
        point("campaign.round")

    def rounds(self, campaign: str) -> dict[int, dict[str, JsonValue]]:
        """Round number to record, in order."""
        c = rounds_table.c
        query = select(c.round, c.record).where(c.campaign == campaign).order_by(c.round)
        with self._db.read() as connection:
            return {row.round: row.record for row in connection.execute(query)}


def _campaign(row: Row[Any]) -> Campaign:
    return Campaign.model_validate(row, from_attributes=True)
