from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from pawl.core import ArtifactDamaged, ArtifactMissing, Database, NotFound, Sampling, Version
from pawl.release import Registry

from .postgres_fixtures import database, postgres_server  # noqa: F401
from .release_fixtures import TASK, registered, store_at


def test_versions_come_back_whole_and_in_the_order_they_were_added(db: Database, tmp_path: Path):
    store = store_at(tmp_path)
    registry = Registry(db, store)
    ids = registered(db, store, "one", "two", "three")
    assert [record.id for record in registry.versions(TASK)] == ids
    record = registry.get(ids[1])
    assert record.version.id == ids[1]
    assert (record.parent, record.lever, record.campaign, record.round) == (ids[0], "scaffold", "c", 1)
    assert store.get_tree(record.version.scaffold)["prompt.md"] == b"two"


def test_a_version_added_again_keeps_its_descent_and_only_gains_the_mark(db: Database, tmp_path: Path):
    store = store_at(tmp_path)
    registry = Registry(db, store)
    first, second = registered(db, store, "one", "two")
    before = registry.get(second)
    again = {"task": TASK, "parent": None, "lever": "weights", "campaign": "other", "round": 9}
    assert registry.add(before.version, **again) == second  # type: ignore[arg-type]
    assert registry.get(second) == before
    registry.add(before.version, **again, estimated_only=True)  # type: ignore[arg-type]
    registry.add(before.version, **again)  # type: ignore[arg-type]
    assert registry.get(second) == before.model_copy(update={"estimated_only": True})
    assert not registry.get(first).estimated_only


def test_two_tasks_may_share_a_version_each_with_its_own_descent(db: Database, tmp_path: Path):
    store = store_at(tmp_path)
    (version,) = registered(db, store, "one")
    assert registered(db, store, "one", task="cells") == [version]
    registry = Registry(db, store)
    assert registry.get(version, "cells").task == "cells"
    assert registry.get(version).task == TASK
    with pytest.raises(NotFound, match="for task 'other'"):
        registry.get(version, "other")


def test_the_id_covers_every_part_of_a_version():
    base = Version(scaffold="a" * 64, base_model="m")
    others = [
        base.model_copy(update={"scaffold": "b" * 64}),
        base.model_copy(update={"adapter": "b" * 64}),
        base.model_copy(update={"base_model": "n"}),
        base.model_copy(update={"sampling": Sampling(temperature=0.5)}),
    ]
    assert len({version.id for version in [base, *others]}) == 5
    assert Version(scaffold="a" * 64, base_model="m").id == base.id


def test_verify_finds_what_is_missing_or_changed_in_scaffold_and_adapter(db: Database, tmp_path: Path):
    store = store_at(tmp_path)
    registry = Registry(db, store)
    adapter = store.put_tree({"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"})
    version = Version(scaffold=store.put_tree({"agent.py": b"pass"}), adapter=adapter, base_model="m")
    registry.add(version, task=TASK, parent=None, lever="weights", campaign="c", round=1)
    assert registry.verify(version.id).version == version

    weights = store.path(store.put(b"weights"))
    weights.write_bytes(b"weighty")
    with pytest.raises(ArtifactDamaged, match="changed or cut"):
        registry.verify(version.id)
    weights.unlink()
    with pytest.raises(ArtifactMissing, match="backup"):
        registry.verify(version.id)
    with pytest.raises(NotFound):
        registry.verify("0" * 64)


def test_a_version_that_a_channel_has_held_cannot_be_deleted_behind_its_back(db: Database, tmp_path: Path):
    from pawl.release import Channel, Channels
    from pawl.release.registry import versions_table

    (version,) = registered(db, store_at(tmp_path), "one")
    Channels(db).move(TASK, Channel.LIVE, version, expected_epoch=0, key="a", reason="", actor="ada")
    with pytest.raises(IntegrityError), db.write() as connection:
        connection.execute(versions_table.delete())
    assert Registry(db, store_at(tmp_path)).get(version).id == version
