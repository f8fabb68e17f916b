"""What the tables of every layer share: canonical JSON columns, idempotent inserts, named locks, the time."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue
from sqlalchemy import Connection, Dialect, Table, Text, text
from sqlalchemy.types import TypeDecorator

from .digest import canonical_json


class CanonicalJson(TypeDecorator[JsonValue]):
    """JSON kept as canonical text, so that equal values are equal bytes on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JsonValue, dialect: Dialect) -> str:
        """Encode a value."""
        return canonical_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> JsonValue:
        """Decode a value; a column that was never set reads as none."""
        return None if value is None else json.loads(value)


def insert_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with the same key is there; tells whether it was inserted."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert
    statement = insert(table).values(**values).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return connection.execute(statement).rowcount == 1


def serialise(connection: Connection, name: str) -> None:
    """Let only one transaction at a time go past here under this name.

    On Postgres this is an advisory lock that the transaction's end releases; on SQLite the transaction holds the
    writer's lock already.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def utc_now() -> str:
    """The time as an ISO string in UTC, to the microsecond: it sorts as it happened."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
