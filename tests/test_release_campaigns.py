import pytest

from pawl.core import Conflict, Database, NotFound, RolloutStop
from pawl.release import Campaigns, Indexed, Status, TrajectoryIndex

from .postgres_fixtures import database, postgres_server  # noqa: F401


def started(db: Database, name: str = "c1", **changes: object):
    values = {"task": "trimul", "seed": 2**62, "settings": {"rounds": 3}, "fingerprint": "f", "schema_version": 1}
    return Campaigns(db).create(name, **{**values, **changes})  # type: ignore[arg-type]


def test_a_campaign_is_created_once_and_the_same_one_again_is_returned_as_it_stands(db: Database):
    created = started(db)
    assert (created.status, created.seed, created.settings) == (Status.RUNNING, 2**62, {"rounds": 3})
    campaigns = Campaigns(db)
    campaigns.set_status("c1", Status.STOPPED, "Ctrl-C")
    again = started(db)
    assert (again.status, again.reason, again.created) == (Status.STOPPED, "Ctrl-C", created.created)
    with pytest.raises(Conflict, match="another seed, settings"):
        started(db, seed=1, settings={})


def test_campaigns_are_found_by_task_and_status_and_an_unknown_one_is_said_so(db: Database):
    campaigns = Campaigns(db)
    for name, task in (("c1", "trimul"), ("c2", "cells"), ("c3", "trimul")):
        started(db, name, task=task)
    campaigns.set_status("c3", Status.WAITING)
    assert [campaign.id for campaign in campaigns.all()] == ["c1", "c2", "c3"]
    assert [campaign.id for campaign in campaigns.all(task="trimul", status=Status.WAITING)] == ["c3"]
    for action in (lambda: campaigns.get("c9"), lambda: campaigns.set_status("c9", Status.FAILED)):
        with pytest.raises(NotFound, match="No campaign 'c9'"):
            action()


def test_a_round_recorded_again_is_one_round_with_the_later_record(db: Database):
    campaigns = Campaigns(db)
    campaigns.record_round("c1", 1, {"lever": "weights"})
    campaigns.record_round("c1", 0, {"lever": "scaffold"})
    campaigns.record_round("c1", 1, {"lever": "weights", "fate": "promoted"})
    campaigns.record_round("c2", 0, {})
    assert list(campaigns.rounds("c1").items()) == [
        (0, {"lever": "scaffold"}),
        (1, {"lever": "weights", "fate": "promoted"}),
    ]


def test_attempts_are_indexed_once_for_each_place_that_asked_for_them(db: Database):
    def attempt(number: int, node: str, item: str, grade: float | None = 1.5) -> Indexed:
        return Indexed(
            campaign="c1",
            round=number,
            node=node,
            trajectory=f"t-{item}",
            version="v",
            item=item,
            artifact="a" * 64,
            grade=grade,
            valid=True,
            stop=RolloutStop.ANSWERED,
        )

    index = TrajectoryIndex(db)
    rows = [attempt(1, "task_agent", "b"), attempt(1, "task_agent", "a"), attempt(2, "gauntlet", "a", None)]
    index.add(rows)
    index.add([attempt(1, "task_agent", "a", 9.0), attempt(2, "task_agent", "c")])
    assert [(row.round, row.item, row.grade) for row in index.of("c1")] == [
        (1, "a", 1.5),
        (1, "b", 1.5),
        (2, "a", None),
        (2, "c", 1.5),
    ]
    assert index.of("c1", round=2, node="gauntlet") == [rows[2]]
    assert [row.round for row in index.find("t-a")] == [1, 2]
    assert index.of("c2") == []
