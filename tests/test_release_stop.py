from pathlib import Path

import pytest

from pawl.core import Database, HomeDamaged, PawlError, Stopped
from pawl.release import KillSwitch

from .postgres_fixtures import database, postgres_server  # noqa: F401


def test_a_stop_of_everything_holds_every_campaign_until_it_is_lifted(db: Database):
    switch = KillSwitch(db)
    switch.check("c1")
    switch.stop("reward looks hacked", actor="ada")
    for campaign in ("c1", "c2", None):
        with pytest.raises(Stopped, match=r"by ada at 20.*reward looks hacked.*`pawl go`"):
            switch.check(campaign)
    assert switch.go("grace")
    assert not switch.go("grace")
    switch.check("c1")
    (stop,) = switch.history()
    assert (stop.reason, stop.actor, stop.lifted_by) == ("reward looks hacked", "ada", "grace")


def test_a_stop_of_one_campaign_leaves_the_others_alone(db: Database):
    switch = KillSwitch(db)
    switch.stop("too dear", actor="ada", scope="c1")
    with pytest.raises(Stopped, match="Campaign c1 was stopped"):
        switch.check("c1")
    switch.check("c2")
    switch.check()
    assert not switch.go("ada")
    with pytest.raises(Stopped):
        switch.check("c1")
    assert switch.go("ada", scope="c1")
    switch.check("c1")


def test_what_cannot_be_read_counts_as_stopped(tmp_path: Path):
    path = tmp_path / "pawl.sqlite"
    db = Database.sqlite(path)
    with pytest.raises(Stopped, match="counts as stopped"):
        KillSwitch(db).check("c1")
    db.create()
    KillSwitch(db).check("c1")
    with db.write() as connection:
        connection.exec_driver_sql("ALTER TABLE stops RENAME COLUMN lifted_at TO other")
    with pytest.raises(Stopped, match="counts as stopped"):
        KillSwitch(db).check("c1")
    db.close()
    path.write_bytes(b"scribble" * 4096)
    with pytest.raises(HomeDamaged):
        KillSwitch(db).check("c1")
    with pytest.raises(PawlError):
        KillSwitch(Database("postgresql://nobody@127.0.0.1:1/none")).check("c1")
