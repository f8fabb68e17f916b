from pathlib import Path

import pytest

from pawl.core import ConfigurationError, Conflict, Database, NotFound
from pawl.release import Decisions

from .postgres_fixtures import database, postgres_server  # noqa: F401
from .release_fixtures import dies, race

DECIDE = """
    import sys
    from pawl.core import Conflict, Database
    from pawl.release import Decisions

    url, answer, actor = sys.argv[1:]
    decisions = Decisions(Database(url))
    decisions.pending()
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        decisions.record("c1", "i1", {"type": answer}, actor)
        print("won")
    except Conflict as error:
        print("lost", error)
"""


def test_what_is_asked_is_pending_until_it_is_decided(db: Database):
    decisions = Decisions(db)
    decisions.ask("c1", "i1", {"diff": "+ faster"})
    decisions.ask("c2", "i1", {"diff": "+ smaller"})
    decisions.ask("c1", "i1", {"diff": "something else"})
    assert [request.request for request in decisions.pending()] == [{"diff": "+ faster"}, {"diff": "+ smaller"}]
    assert decisions.answer("c1", "i1") is None

    decisions.record("c1", "i1", {"type": "approve"}, "ada")
    assert decisions.pending("c1") == []
    assert [request.thread for request in decisions.pending()] == ["c2"]
    answer = decisions.answer("c1", "i1")
    assert answer is not None
    assert (answer.answer, answer.actor) == ({"type": "approve"}, "ada")


def test_a_second_answer_is_refused_and_told_who_decided_what(db: Database):
    decisions = Decisions(db)
    decisions.ask("c1", "i1", {})
    decisions.record("c1", "i1", {"type": "reject"}, "ada")
    with pytest.raises(Conflict, match=r"decided by ada at 20.*: reject"):
        decisions.record("c1", "i1", {"type": "approve"}, "grace")
    assert decisions.answer("c1", "i1").answer == {"type": "reject"}  # type: ignore[union-attr]


def test_an_unknown_id_an_empty_answer_and_a_nameless_one_are_refused(db: Database):
    decisions = Decisions(db)
    decisions.ask("c1", "i1", {})
    with pytest.raises(NotFound, match="pawl pending"):
        decisions.record("c1", "i2", {"type": "approve"}, "ada")
    for empty in (None, {}, ""):
        with pytest.raises(ConfigurationError, match="empty"):
            decisions.record("c1", "i1", empty, "ada")
    with pytest.raises(ConfigurationError, match="who decides"):
        decisions.record("c1", "i1", {"type": "approve"}, " ")
    assert len(decisions.pending("c1")) == 1


def test_of_processes_that_decide_at_the_same_moment_one_wins_and_the_other_is_told(db: Database):
    decisions = Decisions(db)
    decisions.ask("c1", "i1", {})
    said = race(DECIDE, [(db.url, "approve", "ada"), (db.url, "reject", "grace")])
    winner = said.index("won")
    name, verdict = [("ada", "approve"), ("grace", "reject")][winner]
    assert said[1 - winner].startswith(f"lost 'i1' in 'c1' was decided by {name}")
    answer = decisions.answer("c1", "i1")
    assert answer is not None
    assert (answer.actor, answer.answer) == (name, {"type": verdict})


@pytest.mark.parametrize(("fault", "decided"), [("decision.recording:1", False), ("decision.recorded:1", True)])
def test_killed_at_a_decision_it_is_there_or_still_pending(fault: str, decided: bool, tmp_path: Path):
    db = Database.sqlite(tmp_path / "pawl.sqlite")
    db.create()
    decisions = Decisions(db)
    decisions.ask("c1", "i1", {})
    program = DECIDE.replace("sys.stdin.readline()", "")
    assert dies(program, db.url, "approve", "ada", fault=fault)
    assert (decisions.answer("c1", "i1") is not None) == decided
    assert (decisions.pending("c1") == []) == decided
