from pathlib import Path

import pytest

from pawl.core import ConfigurationError, Conflict, Database, NotFound
from pawl.release import Channel, Channels, parse_channel

from .postgres_fixtures import database, postgres_server  # noqa: F401
from .release_fixtures import TASK, dies, race, registered, store_at

MOVE = """
    import sys
    from pawl.core import Conflict, Database
    from pawl.release import Channel, Channels

    url, version, epoch, key = sys.argv[1:]
    db = Database(url)
    channels = Channels(db)
    channels.get("trimul", Channel.LIVE)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        pointer = channels.move(
            "trimul", Channel.LIVE, version, expected_epoch=int(epoch), key=key, reason="faster", actor=key
        )
        print("won", pointer.epoch)
    except Conflict as error:
        print("lost", error)
"""

PROMOTE_OR_ROLL_BACK = """
    import sys
    from pawl.core import Database
    from pawl.release import Channel, Channels

    url, what, version = sys.argv[1:]
    channels = Channels(Database(url))
    if what == "promote":
        channels.move("trimul", Channel.LIVE, version, expected_epoch=1, key="second", reason="", actor="ada")
    else:
        channels.rollback("trimul", key="back", actor="ada", reason="")
"""


def promote(channels: Channels, version: str, epoch: int, key: str) -> int:
    return channels.move(TASK, Channel.LIVE, version, expected_epoch=epoch, key=key, reason="faster", actor="ada").epoch


def holds(channels: Channels) -> tuple[str | None, str | None]:
    live, previous = channels.get(TASK, Channel.LIVE), channels.get(TASK, Channel.PREVIOUS)
    return live and live.version, previous and previous.version


def test_promotion_keeps_what_it_displaced_and_rollback_is_the_same_move_back(db: Database, tmp_path: Path):
    first, second = registered(db, store_at(tmp_path), "one", "two")
    channels = Channels(db)
    assert channels.get(TASK, Channel.LIVE) is None
    assert promote(channels, first, 0, "a") == 1
    assert holds(channels) == (first, None)
    assert promote(channels, second, 1, "b") == 2
    assert holds(channels) == (second, first)

    assert channels.rollback(TASK, key="c", actor="grace", reason="slower").epoch == 3
    assert holds(channels) == (first, second)
    channels.rollback(TASK, key="d", actor="grace", reason="it was not")
    assert holds(channels) == (second, first)

    history = [(move.key, move.displaced, move.version, move.rollback, move.actor) for move in channels.moves(TASK)]
    assert history == [
        ("a", None, first, False, "ada"),
        ("b", first, second, False, "ada"),
        ("c", second, first, True, "grace"),
        ("d", first, second, True, "grace"),
    ]


def test_a_move_on_an_old_epoch_is_refused_and_told_what_is_there(db: Database, tmp_path: Path):
    first, second, third = registered(db, store_at(tmp_path), "one", "two", "three")
    channels = Channels(db)
    promote(channels, first, 0, "a")
    promote(channels, second, 1, "b")
    with pytest.raises(Conflict, match=rf"holds {second[:12]} at epoch 2.*expected epoch 1"):
        promote(channels, third, 1, "c")
    with pytest.raises(Conflict, match="at epoch 2"):
        channels.rollback(TASK, key="d", actor="rule:monitor", reason="", expected_epoch=1)
    assert holds(channels) == (second, first)
    assert len(channels.moves(TASK)) == 2


def test_the_same_key_moves_once_however_often_it_is_asked(db: Database, tmp_path: Path):
    first, second = registered(db, store_at(tmp_path), "one", "two")
    channels = Channels(db)
    promote(channels, first, 0, "a")
    assert [promote(channels, second, 1, "b") for _ in range(3)] == [2, 2, 2]
    assert holds(channels) == (second, first)
    for _ in range(3):
        assert channels.rollback(TASK, key="back", actor="ada", reason="").epoch == 3
    assert holds(channels) == (first, second)
    with pytest.raises(Conflict, match="already moved"):
        promote(channels, first, 3, "b")
    with pytest.raises(Conflict, match="own key"):
        channels.rollback(TASK, key="b", actor="ada", reason="")


def test_promoting_what_is_live_already_keeps_the_way_back(db: Database, tmp_path: Path):
    first, second = registered(db, store_at(tmp_path), "one", "two")
    channels = Channels(db)
    promote(channels, first, 0, "a")
    promote(channels, second, 1, "b")
    assert promote(channels, second, 2, "c") == 2
    assert holds(channels) == (second, first)


def test_shadow_moves_without_touching_live_or_previous(db: Database, tmp_path: Path):
    first, second, third = registered(db, store_at(tmp_path), "one", "two", "three")
    channels = Channels(db)
    promote(channels, first, 0, "a")
    for epoch, version in enumerate((second, third)):
        channels.move(
            TASK, Channel.SHADOW, version, expected_epoch=epoch, key=f"s{epoch}", reason="try", actor="node:shadow"
        )
    assert holds(channels) == (first, None)
    assert channels.get(TASK, Channel.SHADOW).version == third  # type: ignore[union-attr]


def test_what_makes_no_sense_is_refused_with_advice(db: Database, tmp_path: Path):
    (first,) = registered(db, store_at(tmp_path), "one")
    channels = Channels(db)
    with pytest.raises(NotFound, match="holds nothing"):
        channels.rollback(TASK, key="r", actor="ada", reason="")
    promote(channels, first, 0, "a")
    with pytest.raises(NotFound, match="nothing to go back to"):
        channels.rollback(TASK, key="r", actor="ada", reason="")
    with pytest.raises(NotFound, match="no such version is registered for 'trimul'"):
        promote(channels, "f" * 64, 1, "b")
    with pytest.raises(ConfigurationError, match="follows"):
        channels.move(TASK, Channel.PREVIOUS, first, expected_epoch=0, key="p", reason="", actor="ada")


@pytest.mark.parametrize("name", ["trimul", "trimul/", "/live", "trimul/Live", "live", "trimul/live/"])
def test_a_name_that_is_no_channel_is_refused(name: str):
    with pytest.raises(ConfigurationError, match="trimul/live"):
        parse_channel(name)
    assert parse_channel("group/trimul/previous") == ("group/trimul", Channel.PREVIOUS)


def test_of_processes_that_promote_at_the_same_moment_one_wins_and_the_others_are_told(db: Database, tmp_path: Path):
    first, *rest = registered(db, store_at(tmp_path), "one", "two", "three")
    channels = Channels(db)
    promote(channels, first, 0, "a")
    said = race(MOVE, [(db.url, version, "1", f"racer-{version[:6]}") for version in rest])
    assert sorted(line.split()[0] for line in said) == ["lost", "won"]
    assert "epoch 2" in next(line for line in said if line.startswith("lost"))
    live, previous = holds(channels)
    assert live == rest[[line.split()[0] for line in said].index("won")]
    assert previous == first
    assert len(channels.moves(TASK)) == 2


@pytest.mark.parametrize("what", ["promote", "rollback"])
@pytest.mark.parametrize("fault", ["channel.half:1", "channel.written:1", "channel.moved:1"])
def test_killed_in_a_move_the_channels_are_as_before_or_as_after(what: str, fault: str, tmp_path: Path):
    db = Database.sqlite(tmp_path / "pawl.sqlite")
    db.create()
    first, second = registered(db, store_at(tmp_path), "one", "two")
    channels = Channels(db)
    promote(channels, first, 0, "a")
    before, after = (first, None), (second, first)
    if what == "rollback":
        promote(channels, second, 1, "b")
        before, after = (second, first), (first, second)

    assert dies(PROMOTE_OR_ROLL_BACK, db.url, what, second, fault=fault)
    assert holds(channels) == (after if fault.startswith("channel.moved") else before)

    if what == "promote":
        promote(channels, second, 1, "second")
    else:
        channels.rollback(TASK, key="back", actor="ada", reason="")
    assert holds(channels) == after
    assert len(channels.moves(TASK)) == (2 if what == "promote" else 3)
