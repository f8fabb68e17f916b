"""Operations: the truth about effects outside the graph's state.

    report = await operations.once(f"{campaign}/{round}/trainer/{digest}", "train", effect)

LangGraph's checkpoints only replay; whether something was done is looked up here. An effect that is interrupted
between being done and being recorded is done again, so it must be idempotent itself: it attaches by the same key.
"""

from collections.abc import Awaitable, Callable

from pydantic import BaseModel, ConfigDict, JsonValue
from sqlalchemy import Column, Connection, String, Table, select

from ..core import Conflict, Database, NotFound
from ..core.database import metadata
from ..core.faults import point
from ..core.tables import CanonicalJson, insert_new, utc_now

operations_table = Table(
    "operations",
    metadata,
    Column("key", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("result", CanonicalJson),
    Column("begun", String, nullable=False),
    Column("finished", String),
)


class Operation(BaseModel):
    """One effect and what came of it."""

    model_config = ConfigDict(frozen=True)

    key: str
    kind: str
    result: JsonValue
    begun: str
    finished: str | None
    """None while it runs, or where a crash fell between."""


class Operations:
    """The operations of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, key: str) -> Operation | None:
        """The operation under a key, finished or not; none if it was never begun."""
        with self._db.read() as connection:
            return _get(connection, key)

    def lookup(self, key: str) -> JsonValue:
        """The result of a finished operation; none if it isn't finished."""
        found = self.get(key)
        return None if found is None else found.result

    def begin(self, key: str, kind: str) -> None:
        """Record that an effect is about to be tried; again is fine.

        Raises:
            Conflict: the key is taken by an operation of another kind.
        """
        with self._db.write() as connection:
            if insert_new(connection, operations_table, {"key": key, "kind": kind, "begun": utc_now()}):
                return
            found = _get(connection, key)
        if found is not None and found.kind != kind:
            raise Conflict(f"The operation {key!r} is a {found.kind!r}, not a {kind!r}. Give every effect its own key.")

    def finish(self, key: str, result: JsonValue) -> JsonValue:
        """Record a result and return the one that counts: the first to be recorded.

        Raises:
            NotFound: the operation was never begun.
        """
        c = operations_table.c
        with self._db.write() as connection:
            connection.execute(
                operations_table.update()
                .where(c.key == key, c.finished.is_(None))
                .values(result=result, finished=utc_now())
            )
            found = _get(connection, key)
        if found is None:
            raise NotFound(f"No operation {key!r} was begun. Call begin() before its effect.")
        return found.result

    def unfinished(self) -> list[Operation]:
        """What was begun and not finished, oldest first."""
        c = operations_table.c
        query = select(operations_table).where(c.finished.is_(None)).order_by(c.begun, c.key)
        with self._db.read() as connection:
            return [Operation.model_validate(row, from_attributes=True) for row in connection.execute(query)]

    async def once(self, key: str, kind: str, effect: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
        """Do an effect unless it has been done, and return its recorded result either way.

        An effect that raises leaves the operation unfinished, to be tried again.

        Raises:
            Conflict: the key is taken by an operation of another kind.
        """
        self.begin(key, kind)
        found = self.get(key)
        if found is not None and found.finished is not None:
            return found.result
        point("operation.begun")
        result = await effect()
        point("operation.effected")
        recorded = self.finish(key, result)
        point("operation.finished")
        return recorded


def _get(connection: Connection, key: str) -> Operation | None:
    row = connection.execute(select(operations_table).where(operations_table.c.key == key)).first()
    return None if row is None else Operation.model_validate(row, from_attributes=True)
