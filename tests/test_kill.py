"""kill -9 at any moment: the campaign resumes to what an unbroken one would have come to, and nothing is done twice.

The campaigns have every real effect: sandboxed rollouts, a training job, sealed races in the judge, answers at the
gate, promotions, ledger events. Each suffers many deaths in a row; each process that resumes it meets the next one.
"""

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pawl.core import Home
from pawl.graph.store import Store
from pawl.nodes.decision import Lever
from pawl.release import Status

from .child_campaign import small_rules
from .session_fixtures import CAMPAIGN, Processes, Served, left_behind, processes, records, served

LEVERS = (Lever.WEIGHTS, Lever.SCAFFOLD)
APPROVAL = {"decisions": [{"type": "approve"}], "actor": "ada", "reason": "the races look right"}

FAULT, JUDGE, MOMENT, TRAINER, ANSWER = "fault", "judge", "moment", "trainer", "answer"
"""A failpoint; one in the judge; a moment while a node works; the job's process alone; a failpoint while answering."""

NAMED = (
    (FAULT, "campaign.created:1"),
    (FAULT, "lease.taken:1"),
    (FAULT, "ledger.appended:1"),
    (FAULT, "registry.adding:1"),
    (FAULT, "meta_agent.registered:1"),
    (FAULT, "channel.half:1"),
    (FAULT, "channel.written:1"),
    (FAULT, "channel.moved:1"),
    (FAULT, "ledger.appending:1"),
    (FAULT, "ledger.appended:1"),
    (FAULT, "operation.begun:1"),
    (FAULT, "budget.reserved:1"),
    (MOMENT, "rollouts 9/32"),
    (FAULT, "budget.settling:1"),
    (FAULT, "budget.settled:1"),
    (FAULT, "operation.effected:1"),
    (FAULT, "operation.finished:1"),
    (FAULT, "usage.added:1"),
    (FAULT, "trajectories.indexed:1"),
    (FAULT, "operation.finished:1"),
    (FAULT, "operation.effected:1"),
    (FAULT, "operation.finished:1"),
    (FAULT, "training.submit:1"),
    (FAULT, "training.submitted:1"),
    (FAULT, "session.paused:1"),
    (FAULT, "campaign.parked:1"),
    (FAULT, "campaign.woken:1"),
    (TRAINER, "as it starts"),
    (FAULT, "campaign.woken:2"),
    (MOMENT, "training step 0/"),
    (TRAINER, "as it trains"),
    (FAULT, "campaign.woken:2"),
    (FAULT, "budget.settled:1"),
    (FAULT, "registry.added:1"),
    (MOMENT, "target race 20/32"),
    (FAULT, "operation.effected:1"),
    (JUDGE, "judge.entered:1"),
    (JUDGE, "judge.batch:1"),
    (JUDGE, "judge.run:1"),
    (JUDGE, "judge.decided:1"),
    (FAULT, "gauntlet.judged:1"),
    (FAULT, "gauntlet.judged:2"),
    (FAULT, "operation.effected:1"),
    (FAULT, "decision.asked:1"),
    (ANSWER, "decision.recording:1"),
    (ANSWER, "decision.recorded:1"),
    (FAULT, "channel.half:1"),
    (FAULT, "channel.moved:1"),
    (FAULT, "promoter.moved:1"),
    (FAULT, "operation.effected:1"),
    (FAULT, "campaign.round:1"),
)
"""Deaths in the order of a round."""

ONCE = tuple(dict.fromkeys(NAMED))
"""The same without those that strike again at a point where one has struck."""


@dataclass(frozen=True)
class Death:
    """Where somebody was killed."""

    how: str
    point: str
    what: str


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


@pytest.fixture(scope="module")
def unbroken(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the campaign that nothing happened to."""
    home = tmp_path_factory.mktemp("unbroken")
    with processes(server, home, *LEVERS) as children:
        assert play(children, iter(())) == []
    return home


def play(children: Processes, plan: Iterator[tuple[str, str]]) -> list[Death]:
    """Run a campaign to its end, each process meeting the next death of the plan; return those that struck."""
    deaths: list[Death] = []
    rules = small_rules(rounds=2).model_dump(mode="json")
    planned = next(plan, None)
    while True:
        how, where = planned or ("", "")
        if waits(children.home):
            if how == ANSWER:
                status, said = children.run(answer=APPROVAL, fault=where)
                assert status == -signal.SIGKILL, said
                deaths.append(death(how, said))
                planned = next(plan, None)
            else:
                assert children.run(answer=APPROVAL)[0] == 0
            continue
        job_dies = where if how == TRAINER else ""
        if job_dies:  # its controller lives on, to the next death
            how, where = next(plan)
        child = children.start(
            rules=rules,
            fault=where if how == FAULT else "none:0",
            judge_fault=where if how == JUDGE else "",
        )
        if job_dies:
            assert child.until('"kind": "parked"')
            kill_trainer(children.home, after_steps=2 if job_dies == "as it trains" else 0)
            deaths.append(Death(TRAINER, job_dies, ""))
        if how == MOMENT and child.until(where):
            os.kill(child.pid, signal.SIGKILL)
        status, said = child.wait(), child.said()
        assert left_behind(children.home) == [], (how, where)
        if status == -signal.SIGKILL:
            deaths.append(death(how, said) if how == FAULT else Death(how, where, ""))
            planned = next(plan, None)
        elif how == JUDGE and status == 1:
            assert "judge's process ended" in said[-1]["message"]
            deaths.append(Death(how, where, ""))
            planned = next(plan, None)
        else:
            assert status == 0, child.log.read_text()[-3000:]
        if said and said[-1]["kind"] == "finished":
            assert planned is None or planned[1].startswith("*"), f"the campaign ended before {planned}"
            return deaths


def death(how: str, said: Sequence[dict[str, Any]]) -> Death:
    last = next(each for each in reversed(said) if each["kind"] == "death")
    return Death(how, last["point"], last["what"])


def waits(home: Path) -> bool:
    if not (home / "pawl.sqlite").exists():
        return False
    store = Store(Home(home), None)
    try:
        return bool(store.decisions.pending(CAMPAIGN))
    finally:
        store.close()


def kill_trainer(home: Path, after_steps: int) -> None:
    """Kill the job's process once it has done so many steps; the last ones are so short that it may be through."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        [run] = (home / "runs").iterdir()
        done = [path.read_bytes().count(b"\n") for path in run.glob("metrics.jsonl")]
        if sum(done) >= after_steps:
            for entry in Path("/proc").iterdir():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                except OSError:
                    continue
                if b"pawl.training" in words and b"--" not in words and words[-2].startswith(bytes(home)):
                    os.kill(int(entry.name), signal.SIGKILL)
                    return
        if json.loads((run / "status.json").read_text())["state"] == "succeeded":
            assert after_steps, "it ended before it started"
            return
        time.sleep(0.002)
    raise AssertionError("no training job runs")


def check_equal(home: Path, unbroken: Path) -> None:
    """A broken campaign came to what the unbroken one did, and did nothing twice."""
    found, expected = records(home), records(unbroken)
    assert sorted(found) == sorted(expected)
    for table in sorted(expected):
        assert found[table] == expected[table], table
    store = Store(Home(home), None)
    try:
        events = store.ledger.events()
        assert store.ledger.verify() == []
        assert len({event.event_id for event in events}) == len(events)
        assert store.operations.unfinished() == []
        assert store.campaigns.get(CAMPAIGN).status is Status.FINISHED
    finally:
        store.close()
    [run] = (home / "runs").iterdir()
    steps = [json.loads(line)["step"] for line in (run / "checkpoints.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "a step that had been kept was trained again"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == steps[-1]


def test_the_unbroken_campaign_has_every_real_effect(unbroken: Path) -> None:
    store = Store(Home(unbroken), None)
    try:
        kinds = [event.kind for event in store.ledger.events(CAMPAIGN)]
        rounds = store.campaigns.rounds(CAMPAIGN)
        assert [record["fate"] for record in rounds.values()] == ["promoted", "promoted"], rounds
        assert store.meter.spent(CAMPAIGN).training_steps > 0
    finally:
        store.close()
    assert {"campaign.committed", "race.holdout", "race.adversarial", "campaign.revealed"} <= set(kinds)
    assert kinds.count("version.promoted") == 2
    assert kinds.count("approval.requested") == 2


def strides(*lengths: int) -> Iterator[tuple[str, str]]:
    """Deaths at the n-th failpoint of each process, whichever it is."""
    while True:
        for length in lengths:
            yield FAULT, f"*:{length}"


@pytest.mark.parametrize(
    ("plan", "distinct"),
    [(ONCE, 36), pytest.param(NAMED, 40, marks=pytest.mark.slow)],
    ids=["each point once", "some again"],
)
def test_a_campaign_that_is_killed_again_and_again_comes_to_the_same(
    server: Served, unbroken: Path, tmp_path: Path, plan: tuple[tuple[str, str], ...], distinct: int
) -> None:
    with processes(server, tmp_path / "home", *LEVERS) as children:
        deaths = play(children, iter(plan))
    check_equal(tmp_path / "home", unbroken)
    assert len(deaths) == len(plan)
    points = {(each.how, each.point, each.what) for each in deaths}
    assert len(points) >= distinct, sorted(points)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [(14, 17, 21), (13, 14), (15, 23), (16, 19, 13), (18, 13), (20, 14, 27), (22, 15)])
def test_it_comes_to_the_same_wherever_it_is_killed(
    server: Served, unbroken: Path, tmp_path: Path, lengths: tuple[int, ...]
) -> None:
    with processes(server, tmp_path / "home", *LEVERS) as children:
        deaths = play(children, strides(*lengths))
    check_equal(tmp_path / "home", unbroken)
    assert len(deaths) >= 5
