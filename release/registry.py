"""The registry: every version that was ever kept, where it came from, and whether its bytes are still there.

registry = Registry(db, store)
version_id = registry.add(version, task="trimul", parent=None, lever=None, campaign=campaign, round=0)
registry.verify(version_id)
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Boolean, Column, Integer, Row, String, Table, select

from ..core import ArtifactStore, Database, NotFound, Version
from ..core.database import metadata
from ..core.faults import point
from ..core.tables import CanonicalJson, insert_new, utc_now

versions_table = Table(
    "versions",
    metadata,
    Column("task", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("version", CanonicalJson, nullable=False),
    Column("parent", String),
    Column("lever", String),
    Column("campaign", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("estimated_only", Boolean, nullable=False),
    Column("created", String, nullable=False),
)


class VersionRecord(BaseModel):
    """A version and its descent."""

    model_config = ConfigDict(frozen=True)

    id: str
    version: Version
    task: str
    parent: str | None
    """Id of the version that it was made from; none for a task's first."""
    lever: str | None
    """The lever that made it from its parent; none for a task's first."""
    campaign: str
    round: int
    estimated_only: bool
    """Whether its promotion rests on estimated times alone."""
    created: str


class Registry:
    """Versions by task and content id. Nothing is ever changed in place or deleted."""

    def __init__(self, db: Database, store: ArtifactStore) -> None:
        self._db = db
        self._store = store

    def add(
        self,
        version: Version,
        *,
        task: str,
        parent: str | None,
        lever: str | None,
        campaign: str,
        round: int,  # noqa: A002
        estimated_only: bool = False,
    ) -> str:
        """Register a version and return its id.

        Idempotent: a version that is already there keeps the descent it was first added with. `estimated_only`
        can be set by a later call, and never cleared.
        """
        record = {
            "task": task,
            "id": version.id,
            "version": version.model_dump(mode="json"),
            "parent": parent,
            "lever": lever,
            "campaign": campaign,
            "round": round,
            "estimated_only": estimated_only,
            "created": utc_now(),
        }
        point("registry.adding")
        with self._db.write() as connection:
            if not insert_new(connection, versions_table, record) and estimated_only:
                connection.execute(
                    versions_table.update()
                    .where(versions_table.c.task == task, versions_table.c.id == version.id)
                    .values(estimated_only=True)
                )
        point("registry.added")
        return version.id

    def get(self, version_id: str, task: str | None = None) -> VersionRecord:
        """Look a version up; without a task, the record it was first added with.

        Raises:
            NotFound: it was never registered (for this task).
        """
        query = select(versions_table).where(versions_table.c.id == version_id).order_by(versions_table.c.created)
        if task is not None:
            query = query.where(versions_table.c.task == task)
        with self._db.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            where = f"for task {task!r}" if task is not None else "in this home"
            raise NotFound(f"No version {version_id[:12]} is registered {where}. `pawl history` lists those there are.")
        return _record(row)

    def versions(self, task: str) -> list[VersionRecord]:
        """Every version of a task, in the order they were added."""
        query = (
            select(versions_table)
            .where(versions_table.c.task == task)
            .order_by(versions_table.c.created, versions_table.c.id)
        )
        with self._db.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def verify(self, version_id: str) -> VersionRecord:
        """Check that everything a version is made of is stored and has its digest.

        Raises:
            NotFound: it was never registered.
            ArtifactMissing: a file of its scaffold or adapter is gone.
            ArtifactDamaged: one was changed.
        """
        record = self.get(version_id)
        for tree in (record.version.scaffold, record.version.adapter):
            if tree is not None:
                self._store.get_tree(tree)
        return record


def _record(row: Row[Any]) -> VersionRecord:
    return VersionRecord.model_validate(row, from_attributes=True)
