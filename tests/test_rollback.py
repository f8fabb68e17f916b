"""Rolling back by hand: what was done is in the ledger, and typing it again never brings the bad version back."""

from pathlib import Path

import pytest

from pawl.core import Conflict, Home, NotFound
from pawl.graph.session import Session
from pawl.graph.store import Store
from pawl.release import Channel

from .release_fixtures import TASK, dies, registered

ROLL_BACK = """
    import sys
    from pawl.graph.session import Session

    home, version = sys.argv[1:]
    with Session.sync(home, plugins=False) as session:
        session.rollback("trimul", by="ada", reason="slower", version=version or None)
"""


@pytest.fixture
def versions(tmp_path: Path) -> list[str]:
    """Two versions of a home, promoted one after the other: the second is live, and bad."""
    store = Store(Home(tmp_path).create(), None)
    ids = registered(store.db, store.artifacts, "good", "bad")
    for epoch, version in enumerate(ids):
        store.channels.move(
            TASK, Channel.LIVE, version, expected_epoch=epoch, key=version, reason="faster", actor="ada"
        )
    store.close()
    return ids


def live(home: Path) -> str | None:
    """What is live; the ledger has every rollback among the moves."""
    store = Store(Home(home), None)
    try:
        rollbacks = [(move.displaced, move.version) for move in store.channels.moves(TASK) if move.rollback]
        told = [each.body for each in store.ledger.events() if each.kind == "version.rolled-back"]
        assert [(body["from"], body["to"]) for body in told] == rollbacks
        assert store.ledger.verify() == []
        pointer = store.channels.get(TASK, Channel.LIVE)
        return pointer.version if pointer is not None else None
    finally:
        store.close()


@pytest.mark.parametrize("named", [True, False], ids=["named", "whatever-is-live"])
@pytest.mark.parametrize("fault", ["channel.written:1", "channel.moved:1"])
def test_killed_in_a_rollback_by_hand_and_typed_again_the_good_version_is_live(
    fault: str, named: bool, versions: list[str], tmp_path: Path
) -> None:
    good, bad = versions
    assert dies(ROLL_BACK, str(tmp_path), bad[:8] if named else "", fault=fault)
    assert live(tmp_path) == (good if fault == "channel.moved:1" else bad)
    with Session.sync(tmp_path, plugins=False) as session:
        if fault == "channel.moved:1" and not named:
            with pytest.raises(Conflict, match=rf"already, from {bad[:12]} to {good[:12]}, by ada.*--from {good[:12]}"):
                session.rollback(TASK, by="ada", reason="slower")
        else:
            assert session.rollback(TASK, by="ada", reason="slower", version=bad if named else None).version == good
    assert live(tmp_path) == good


def test_a_rollback_is_undone_by_naming_what_it_brought_back(versions: list[str], tmp_path: Path) -> None:
    good, bad = versions
    with Session.sync(tmp_path, plugins=False) as session:
        assert session.rollback(TASK, by="ada", reason="slower").version == good
        assert session.rollback(TASK, by="bob", reason="it was not", version=good[:12]).version == bad
        assert session.rollback(TASK, by="bob", reason="typed twice", version=good[:12]).version == bad
        with pytest.raises(Conflict, match=f"holds {bad[:12]}, not 0123.*nothing was moved"):
            session.rollback(TASK, by="ada", reason="a slip", version="0123")
    assert live(tmp_path) == bad
    with Session.sync(tmp_path / "other", plugins=False) as session, pytest.raises(NotFound, match="holds nothing"):
        session.rollback(TASK, by="ada", reason="nothing there", version="0123")
