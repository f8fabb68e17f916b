from pathlib import Path

import pytest

from pawl.core import Conflict, Database, NotFound
from pawl.release import Checkpoint, Event, EventKind, Ledger
from pawl.release.ledger import events_table

from .postgres_fixtures import database, postgres_server  # noqa: F401
from .release_fixtures import dies, race

APPEND = """
    import sys
    from pawl.core import Database
    from pawl.release import Ledger

    url, name, count = sys.argv[1:]
    ledger = Ledger(Database(url))
    ledger.events()
    print("ready", flush=True)
    sys.stdin.readline()
    print(*[ledger.append(f"{name}/{i}", "told", "c1", {"i": i}, "trace") for i in range(int(count))])
"""


def filled(db: Database, count: int = 7) -> Ledger:
    ledger = Ledger(db)
    for number in range(count):
        ledger.append(f"c1/{number}", EventKind.ROUND_EVALUATED, "c1", {"round": number}, f"{number:032x}")
    return ledger


def hash_of(event: Event) -> str:
    """What a careful forger would write beside an edited event."""
    import hashlib

    return hashlib.sha256(b"\x00" + event.leaf).hexdigest()


def test_events_are_numbered_without_gaps_and_come_back_in_order(db: Database):
    ledger = filled(db)
    ledger.append("c2/0", "plugin.word", "c2", {}, "t")
    assert [event.seq for event in ledger.events()] == list(range(1, 9))
    assert [event.body["round"] for event in ledger.events("c1")] == list(range(7))
    assert ledger.events("c2")[0].kind == "plugin.word"
    assert ledger.verify(ledger.root()) == []


def test_the_same_event_again_is_the_same_entry_and_another_under_its_id_is_refused(db: Database):
    ledger = filled(db)
    root = ledger.root()
    assert ledger.append("c1/3", EventKind.ROUND_EVALUATED, "c1", {"round": 3}, "another trace") == 4
    assert ledger.root() == root
    for kind, campaign, body in (
        (EventKind.ROUND_EVALUATED, "c1", {"round": 4}),
        (EventKind.VERSION_PROMOTED, "c1", {"round": 3}),
        (EventKind.ROUND_EVALUATED, "c2", {"round": 3}),
    ):
        with pytest.raises(Conflict, match="says something else"):
            ledger.append("c1/3", kind, campaign, body, "t")


def test_equal_runs_have_equal_essences_though_times_and_traces_differ(tmp_path: Path):
    runs = []
    for name in ("a", "b"):
        db = Database.sqlite(tmp_path / f"{name}.sqlite")
        db.create()
        ledger = Ledger(db)
        ledger.append("c1/1", EventKind.VERSION_PROMOTED, "c1", {"b": 1, "a": [1.5]}, f"trace {name}")
        runs.append(ledger)
    assert [event.essence for event in runs[0].events()] == [event.essence for event in runs[1].events()]
    assert runs[0].root() != runs[1].root()


@pytest.mark.parametrize("column", ["event_id", "kind", "campaign", "body", "trace_id", "at"])
@pytest.mark.parametrize("seq", [1, 4, 7])
def test_an_edit_of_any_field_is_found(column: str, seq: int, tmp_path: Path):
    db = Database.sqlite(tmp_path / "pawl.sqlite")
    db.create()
    ledger = filled(db)
    forged = {"round": 99} if column == "body" else "forged"
    with db.write() as connection:
        connection.execute(events_table.update().where(events_table.c.seq == seq).values({column: forged}))
    assert [fault.seq for fault in ledger.verify()] == [seq]


def test_a_dropped_entry_is_found_as_a_gap(db: Database):
    ledger = filled(db)
    with db.write() as connection:
        connection.execute(events_table.delete().where(events_table.c.seq == 3))
    (fault,) = ledger.verify()
    assert fault.seq == 3
    assert "gap" in fault.problem


def test_a_cut_end_and_a_careful_rewrite_are_found_against_a_checkpoint(db: Database):
    ledger = filled(db)
    checkpoint = ledger.root()
    ledger.append("c1/later", EventKind.CAMPAIGN_REVEALED, "c1", {}, "t")
    assert ledger.verify(checkpoint) == []

    event = ledger.events()[1]
    forged = event.model_copy(update={"body": {"round": 99}})
    with db.write() as connection:
        connection.execute(
            events_table.update().where(events_table.c.seq == 2).values(body=forged.body, leaf_hash=hash_of(forged))
        )
    assert ledger.verify() == []
    assert ["rewritten" in fault.problem for fault in ledger.verify(checkpoint)] == [True]

    with db.write() as connection:
        connection.execute(
            events_table.update().where(events_table.c.seq == 2).values(body=event.body, leaf_hash=hash_of(event))
        )
        connection.execute(events_table.delete().where(events_table.c.seq > 5))
    assert ledger.verify() == []
    assert ["cut" in fault.problem for fault in ledger.verify(checkpoint)] == [True]


def test_inclusion_is_proved_for_every_entry_and_for_no_forgery(db: Database):
    ledger = filled(db)
    checkpoint = ledger.root()
    for seq in range(1, 8):
        proof = ledger.prove_inclusion(seq)
        assert proof.event.seq == seq
        assert proof.holds(checkpoint)
        assert not proof.model_copy(update={"event": proof.event.model_copy(update={"at": "later"})}).holds(checkpoint)
        assert not proof.holds(Checkpoint(checkpoint.size, "0" * 64))
        assert not proof.model_copy(update={"proof": {"type": "inclusion"}}).holds(checkpoint)
    for seq in (0, 8):
        with pytest.raises(NotFound, match="1 to 7"):
            ledger.prove_inclusion(seq)


def test_processes_that_append_side_by_side_leave_no_gap_and_no_double(db: Database):
    said = race(APPEND, [(db.url, "a", "20"), (db.url, "b", "20")])
    taken = sorted(int(number) for line in said for number in line.split())
    assert taken == list(range(1, 41))
    assert Ledger(db).verify() == []


def test_killed_at_an_append_the_log_is_sound_and_the_event_is_there_once_after_a_retry(tmp_path: Path):
    db = Database.sqlite(tmp_path / "pawl.sqlite")
    db.create()
    program = APPEND.replace("sys.stdin.readline()", "")
    assert dies(program, db.url, "a", "3", fault="ledger.appending:2")
    assert [event.event_id for event in Ledger(db).events()] == ["a/0"]
    assert dies(program, db.url, "a", "3", fault="ledger.appended:1")
    assert [event.event_id for event in Ledger(db).events()] == ["a/0", "a/1"]
    assert [Ledger(db).append(f"a/{i}", "told", "c1", {"i": i}, "trace") for i in range(3)] == [1, 2, 3]
    assert [event.event_id for event in Ledger(db).events()] == ["a/0", "a/1", "a/2"]
    assert Ledger(db).verify() == []
