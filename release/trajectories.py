"""The trajectory index: which attempts there were, how they ended, and where their steps are stored.

The steps themselves are artefacts; the index is what `pawl history` and the Feedback-Agent look through.
Attempts at sealed items never come here: the judge keeps them.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Boolean, Column, Float, Index, Integer, String, Table, select

from ..core import Database, RolloutStop
from ..core.database import metadata
from ..core.faults import point
from ..core.tables import insert_new

trajectories_table = Table(
    "trajectories",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("node", String, primary_key=True),
    Column("trajectory", String, primary_key=True),
    Column("version", String, nullable=False),
    Column("item", String, nullable=False),
    Column("artifact", String, nullable=False),
    Column("grade", Float),
    Column("valid", Boolean),
    Column("stop", String, nullable=False),
    Index("trajectories_by_id", "trajectory"),
)


class Indexed(BaseModel):
    """One attempt, without its steps."""

    model_config = ConfigDict(frozen=True)

    campaign: str
    round: int
    node: str
    """The node that asked for it."""
    trajectory: str
    """Id of the trajectory: the digest of version, item and seed."""
    version: str
    item: str
    artifact: str
    """Digest of the whole trajectory in the artefact store."""
    grade: float | None
    """None only where nothing was graded yet."""
    valid: bool | None = None
    stop: RolloutStop


class TrajectoryIndex:
    """The index of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, rows: Sequence[Indexed]) -> None:
        """Index attempts, all or none; one that a node has indexed in this round already stays as it is."""
        with self._db.write() as connection:
            for row in rows:
                insert_new(connection, trajectories_table, row.model_dump(mode="json"))
        point("trajectories.indexed")

    def of(self, campaign: str, round: int | None = None, node: str | None = None) -> list[Indexed]:  # noqa: A002
        """The attempts of a campaign, of one of its rounds, or of one node in it; by round, node, item and id."""
        c = trajectories_table.c
        query = select(trajectories_table).where(c.campaign == campaign).order_by(c.round, c.node, c.item, c.trajectory)
        if round is not None:
            query = query.where(c.round == round)
        if node is not None:
            query = query.where(c.node == node)
        with self._db.read() as connection:
            return [Indexed.model_validate(row, from_attributes=True) for row in connection.execute(query)]

    def find(self, trajectory: str) -> list[Indexed]:
        """Every place where an attempt with this id was indexed."""
        c = trajectories_table.c
        query = select(trajectories_table).where(c.trajectory == trajectory).order_by(c.campaign, c.round, c.node)
        with self._db.read() as connection:
            return [Indexed.model_validate(row, from_attributes=True) for row in connection.execute(query)]
