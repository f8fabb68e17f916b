"""Database access: SQLAlchemy Core on SQLite (default) or Postgres.

    db = Database.sqlite(home.database)
    with db.write() as connection:      # one transaction, writers queue up
        connection.execute(table.insert().values(...))

Each layer that owns tables declares them on `metadata` and calls `db.create()`.
"""

import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.schema import CreateColumn

from .errors import ConfigurationError, HomeDamaged

metadata = MetaData()
"""The tables of every layer."""


class Database:
    """One database; safe to share between threads and, by transactions, between processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        if not self.is_sqlite and not url.startswith("postgresql"):
            raise ConfigurationError(f"{url.split('://')[0]!r} is no database Pawl knows: use sqlite or postgresql.")
        if self.is_sqlite:
            self.engine = create_engine(url, connect_args={"timeout": 30})
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin)
        else:
            self.engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), pool_pre_ping=True)

    @classmethod
    def sqlite(cls, path: Path) -> "Database":
        """Open a SQLite file in WAL mode with `synchronous=FULL`."""
        return cls(f"sqlite:///{path}")

    def create(self, left: Callable[[], Sequence[Path]] = tuple) -> None:
        """Create the tables that are missing, and bring those of an older Pawl up to date.

        A table that gained columns gets them, with their defaults; one whose `info` names columns as `retired` loses
        those. Safe to call from several processes at once.

        Args:
            left: finds what only a database that has been in use leaves behind; an empty one beside such things is
                not a new one.

        Raises:
            HomeDamaged: the file is not a database, or is cut or locked, or was emptied.
            ConfigurationError: a table is of another version of Pawl, and can't be brought up to this one.
        """
        with self.write() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7261)")
            is_new = not set(inspect(connection).get_table_names()) & set(metadata.tables)
            found = list(left()) if is_new else []
            if found:
                raise HomeDamaged(
                    f"The database {self.engine.url.render_as_string(hide_password=True)} is empty, but there is work "
                    f"that it should know of, in {', '.join(map(str, found))}. Restore the database from a backup, "
                    "or start another home with --home."
                )
            metadata.create_all(connection)
            _upgrade(connection)

    @contextmanager
    def write(self) -> Generator[Connection]:
        """A transaction that commits at the end and rolls back on an exception.

        On SQLite it takes the writer's lock at once, so that read-then-write never deadlocks.

        Raises:
            HomeDamaged: the database can't be read or written at all.
        """
        with self._transaction(self.engine) as connection:
            yield connection

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that sees one moment; on SQLite it neither waits for a writer nor keeps one waiting.

        Raises:
            HomeDamaged: the database can't be read at all.
        """
        with self._transaction(self.engine.execution_options(pawl_reads=True)) as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Generator[Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except (OperationalError, DatabaseError) as error:
            if _is_damage(error):
                where = self.engine.url.render_as_string(hide_password=True)
                raise HomeDamaged(
                    f"The database {where} can't be used: {error.orig}. Restore it from a backup, "
                    "or start another home with --home."
                ) from error
            raise

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def _upgrade(connection: Connection) -> None:
    """Add columns that tables of an older Pawl lack, and drop those that nothing fills any more."""
    found = inspect(connection).get_multi_columns(filter_names=list(metadata.tables))
    there = {name: {column["name"] for column in columns} for (_, name), columns in found.items()}
    for table in metadata.sorted_tables:
        for column in table.columns:
            if column.name in there[table.name]:
                continue
            if not column.nullable and column.server_default is None:
                raise ConfigurationError(
                    f"The table {table.name!r} of this home lacks the column {column.name!r}: another version of Pawl "
                    "made it. Use that version, or start another home with --home."
                )
            definition = CreateColumn(column).compile(connection)
            connection.exec_driver_sql(f'ALTER TABLE "{table.name}" ADD COLUMN {definition}')
        for name in table.info.get("retired", ()):
            if name in there[table.name]:
                connection.exec_driver_sql(f'ALTER TABLE "{table.name}" DROP COLUMN "{name}"')


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by the listener below
    cursor = connection.cursor()
    for pragma in ("busy_timeout=30000", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    _write_ahead(cursor)
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Switch to WAL; the switch doesn't wait for processes that open the same new file, whatever the time-out."""
    deadline = time.monotonic() + 30
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get("pawl_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _is_damage(error: DatabaseError) -> bool:
    text = str(error.orig).lower()
    return any(
        mark in text
        for mark in (
            "not a database",
            "malformed",
            "disk i/o",
            "unable to open",
            "readonly",
            "could not connect",
            "connection failed",
            "server closed the connection",
        )
    )
