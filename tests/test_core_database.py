import threading
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, text

from pawl.core import ConfigurationError, Database, Home, HomeDamaged
from pawl.core.database import metadata
from pawl.core.tables import insert_new, serialise, utc_now
from pawl.release import campaigns  # noqa: F401  (declares tables, as the next one does)
from pawl.safety import budget  # noqa: F401

from .postgres_fixtures import database, postgres_server  # noqa: F401
from .release_fixtures import race

CREATE = """
    import sys
    from pathlib import Path
    from pawl import release
    from pawl.safety import budget
    from pawl.core import Database
    from sqlalchemy import inspect

    print("ready", flush=True)
    sys.stdin.readline()
    found = set()
    for number in range(6):
        db = Database.sqlite(Path(sys.argv[1]) / f"{number}.sqlite")
        db.create()
        found.add(len(inspect(db.engine).get_table_names()))
        db.close()
    print(*found)
"""


def test_a_transaction_that_raises_leaves_nothing(db: Database):
    rounds = metadata.tables["rounds"]

    def half_way() -> None:
        with db.write() as connection:
            connection.execute(rounds.insert().values(campaign="c", round=0, record={}))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half"):
        half_way()
    with db.read() as connection:
        assert connection.execute(select(rounds)).all() == []


def test_processes_that_create_the_same_databases_at_once_all_find_every_table(tmp_path: Path):
    db = Database.sqlite(tmp_path / "pawl.sqlite")
    db.create()
    tables = len(inspect(db.engine).get_table_names())
    assert race(CREATE, [(str(tmp_path),)] * 3) == [str(tables)] * 3


def test_read_then_write_in_threads_loses_no_update(db: Database):
    rounds = metadata.tables["rounds"]
    with db.write() as connection:
        connection.execute(rounds.insert().values(campaign="c", round=0, record={"n": 0}))

    def add() -> None:
        for _ in range(10):
            with db.write() as connection:
                serialise(connection, "count")
                found = connection.execute(select(rounds.c.record)).scalar_one()
                connection.execute(rounds.update().values(record={"n": found["n"] + 1}))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as connection:
        assert connection.execute(select(rounds.c.record)).scalar_one() == {"n": 40}


def test_insert_new_says_whether_the_row_is_new_and_keeps_the_old_one(db: Database):
    rounds = metadata.tables["rounds"]
    with db.write() as connection:
        assert insert_new(connection, rounds, {"campaign": "c", "round": 0, "record": [1, None]})
        assert not insert_new(connection, rounds, {"campaign": "c", "round": 0, "record": "other"})
        assert connection.execute(select(rounds.c.record)).scalar_one() == [1, None]


def test_json_is_kept_as_canonical_text(db: Database):
    with db.write() as connection:
        insert_new(connection, metadata.tables["rounds"], {"campaign": "c", "round": 0, "record": {"b": "é", "a": 1.5}})
        assert connection.execute(text("SELECT record FROM rounds")).scalar_one() == '{"a":1.5,"b":"é"}'


def test_sqlite_writes_ahead_syncs_every_commit_and_keeps_its_references(tmp_path: Path):
    db = Database.sqlite(tmp_path / "pawl.sqlite")
    with db.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def read_everything(db: Database) -> None:
    for table in metadata.sorted_tables:
        with db.read() as connection:
            connection.execute(select(table)).all()


@pytest.mark.parametrize("damage", ["header", "page", "folder"])
def test_a_damaged_file_is_said_so_and_left_as_it_is(damage: str, tmp_path: Path):
    path = tmp_path / "pawl.sqlite"
    db = Database.sqlite(path)
    if damage == "folder":
        path.mkdir()
    else:
        db.create()
        db.close()
        whole = bytearray(path.read_bytes())
        start = 0 if damage == "header" else 4096
        whole[start : start + 4096] = b"\xff" * 4096
        path.write_bytes(whole)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(HomeDamaged, match=r"pawl\.sqlite can't be used.*backup"):
        read_everything(db)
    assert path.is_dir() or path.read_bytes() == before


def test_a_database_out_of_reach_is_said_so_without_its_password():
    with pytest.raises(HomeDamaged, match=r"127\.0\.0\.1") as caught:
        Database("postgresql://ada:secret@127.0.0.1:1/pawl").create()
    assert "secret" not in str(caught.value)


def test_a_url_of_something_else_is_refused():
    with pytest.raises(ConfigurationError, match="sqlite or postgresql"):
        Database("mysql://localhost/pawl")


def test_a_home_makes_its_folders_keeps_the_judges_private_and_refuses_a_file_in_the_way(tmp_path: Path):
    home = Home(tmp_path / "home").create()
    assert home.artifacts.is_dir()
    assert home.judge.stat().st_mode & 0o077 == 0
    Home(tmp_path / "home").create()
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeDamaged, match="--home"):
        Home(tmp_path / "file").create()


def test_times_sort_as_they_happened():
    times = [utc_now() for _ in range(50)]
    assert times == sorted(times)
    assert all(len(time) == 32 and time.endswith("+00:00") for time in times)
