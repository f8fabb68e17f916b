"""What a training job is made of: rollouts of near policies, newest first, base and value head; over real stores."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pawl.core import ArtifactStore, Grade, ModelCall, RolloutStop, Trajectory, Version
from pawl.core.database import Database
from pawl.evals.races import Outcome, Race
from pawl.nodes.context import TrainingBase
from pawl.nodes.decision import Decision, Diagnosis, Lever
from pawl.nodes.journal import key, save_trajectories
from pawl.nodes.rounds import RoundRow
from pawl.nodes.spec import NodeRuntime
from pawl.nodes.state import CampaignRules, Candidate, Evaluation, RaceSummary, State
from pawl.nodes.trainer import trainer
from pawl.nodes.training_sample import last_critic, sample
from pawl.release.campaigns import Campaigns
from pawl.release.ledger import Ledger
from pawl.release.operations import Operations
from pawl.release.registry import Registry
from pawl.training import PPO, Datum, Drop, GroupRelative, JobHandle, JobState, JobStatus, TrainJob, make_dataset


def rollouts(version: str, item: str, *grades: float) -> list[Trajectory]:
    call = ModelCall(model="m", prompt="p", completion="c", prompt_token_ids=[1], token_ids=[2], logprobs=[-0.5])
    return [
        Trajectory(
            version=version,
            item=item,
            seed=seed,
            steps=[call],
            stop=RolloutStop.ANSWERED,
            grade=Grade(value=grade, valid=True),
        )
        for seed, grade in enumerate(grades)
    ]


class Home:
    """Stores with four versions: no adapter, A1, A2 (live), and A3, which was never live."""

    def __init__(self, folder: Path) -> None:
        database = Database.sqlite(folder / "pawl.sqlite")
        database.create()
        self.artifacts = ArtifactStore(folder / "artifacts")
        self.registry = Registry(database, self.artifacts)
        self.campaigns, self.operations = Campaigns(database), Operations(database)
        self.ledger = Ledger(database)
        self.campaigns.create("c", task="t", seed=0, settings={}, fingerprint="f", schema_version=1)
        scaffold = self.artifacts.put_tree({"agent.py": b""})
        self.versions: list[str] = []
        for number in range(4):
            adapter = self.artifacts.put_tree({"w": bytes([number])}) if number else None
            made = Version(scaffold=scaffold, adapter=adapter, base_model="m")
            self.registry.add(made, task="t", parent=None, lever=None, campaign="c", round=number)
            self.versions.append(made.id)

    @property
    def runtime(self) -> NodeRuntime:
        names = ("artifacts", "registry", "campaigns", "operations")
        return cast(
            NodeRuntime, SimpleNamespace(context=SimpleNamespace(**{name: getattr(self, name) for name in names}))
        )

    def round(self, number: int, sampled: int, candidate: int, live: int) -> None:
        tried = save_trajectories(self.artifacts, rollouts(self.versions[candidate], f"race{number}", 0.0, 1.0))
        row = RoundRow(
            round=number,
            decision=Decision(
                lever=Lever.WEIGHTS, diagnosis=Diagnosis.SPREAD, objective=GroupRelative(), reason="as the test says"
            ),
            candidate=Candidate(
                version=self.versions[candidate],
                parent=self.versions[sampled],
                lever=Lever.WEIGHTS,
                operator="ppo",
                summary="",
            ),
            evaluation=Evaluation(mean=0.0, low=None, high=None, rollouts=2, valid=2, failures={}),
            races=[RaceSummary(race=Race.TARGET, outcome=Outcome.PASSED, evidence=tried)],
            approval=None,
            fate="promoted" if live == candidate else "discarded",
            live=self.versions[live],
            sampled=self.versions[sampled],
            trajectories=save_trajectories(
                self.artifacts, rollouts(self.versions[sampled], f"round{number}", 0.0, 1.0, 1.0)
            ),
            usage=cast(Any, {}),
        )
        self.campaigns.record_round("c", number, row.model_dump(mode="json"))

    def state(self, **rules: int) -> State:
        return State(
            campaign="c",
            round=4,
            live=self.versions[2],
            rules=CampaignRules(**cast(Any, rules)),
            trajectories=save_trajectories(self.artifacts, rollouts(self.versions[2], "now", 0.0, 1.0)),
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.round(1, sampled=0, candidate=1, live=1)
    made.round(2, sampled=1, candidate=2, live=2)
    made.round(3, sampled=2, candidate=3, live=2)
    return made


@pytest.mark.parametrize(
    ("staleness", "items", "stale"),
    [
        (0, {"now", "round3", "race2"}, 10),
        (1, {"now", "round3", "race2", "round2@1", "race1@1"}, 5),
        (2, {"now", "round3", "race2", "round2@1", "race1@1", "round1@2"}, 2),
    ],
)
def test_rollouts_of_policies_that_are_near_enough_are_learned_from_and_the_others_counted(
    home: Home, staleness: int, items: set[str], stale: int
) -> None:
    state = home.state(staleness=staleness)
    found = sample(state, home.runtime)
    assert found.ages == dict(zip(home.versions, (2, 1, 0), strict=False))
    assert found.older == {home.versions[0], home.versions[1]}
    dataset = make_dataset(
        found.trajectories, GroupRelative(), lambda value: value, ages=found.ages, staleness=staleness
    )
    assert {datum.group_id for datum in dataset.datums} == items
    assert dataset.dropped == {Drop.STALE: stale}
    assert dataset.used == 17 - stale


def test_no_more_earlier_rollouts_are_taken_than_the_rules_allow(home: Home) -> None:
    found = sample(home.state(replay=4), home.runtime)
    assert [each.item for each in found.trajectories if each.version == home.versions[2]] == [
        *["now"] * 2,
        *["round3"] * 3,
        "race2",
    ]
    assert [each.item for each in sample(home.state(replay=0), home.runtime).trajectories] == ["now", "now"]


def test_the_newest_value_head_is_gone_on_from_whatever_became_of_its_candidate(home: Home) -> None:
    state = home.state()
    assert last_critic(state, home.runtime) is None
    for number, sampled, head in ((1, 0, "first"), (3, 2, "third")):
        operation = key({**state, "round": number}, "trainer", home.versions[sampled])
        home.operations.begin(operation, "training")
        home.operations.finish(operation, {"adapter": "a", "summary": "s", "critic": head})
    assert last_critic(state, home.runtime) == "third"


class Refusing:
    """A double for whoever trains: keeps what was submitted, and says that it failed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.job, self.datums = folder, cast(TrainJob, None), list[Datum]()

    def submit(self, job: TrainJob, datums: Sequence[Datum]) -> JobHandle:
        self.job, self.datums = job, list(datums)
        return JobHandle(id=job.id, run_dir=self.folder)

    def poll(self, handle: JobHandle) -> JobStatus:
        return JobStatus(state=JobState.FAILED, error="as the test says")


@pytest.mark.parametrize(("weights", "goes_on"), [("d1", True), ("d2", False)])
async def test_a_job_names_the_weights_it_trains_on_and_goes_on_from_a_head_of_those_alone(
    home: Home, tmp_path: Path, weights: str, goes_on: bool
) -> None:
    head = home.artifacts.put_tree({"critic.json": b'{"base_digest":"d1"}', "critic.safetensors": b""})
    before = key({**home.state(), "round": 3}, "trainer", home.versions[2])
    home.operations.begin(before, "training")
    home.operations.finish(before, {"adapter": "a", "summary": "s", "critic": head})
    decision = Decision(lever=Lever.WEIGHTS, diagnosis=Diagnosis.SPREAD, objective=PPO(), reason="as the test says")
    backend, spent = Refusing(tmp_path / "run"), SimpleNamespace(hold=lambda *_: None, settle=lambda *_: None)
    context = vars(home.runtime.context) | {
        "trainer": backend,
        "training_base": TrainingBase("base", "m", str(tmp_path / "adapters"), threads=1, digest=weights),
        "task": SimpleNamespace(metric=SimpleNamespace(signed=lambda value: value)),
        "ledger": home.ledger,
        "budget": spent,
        "parity": None,
    }
    state = cast(State, {**home.state(), "seed": 1, "decision": decision})
    update = await trainer(state, cast(NodeRuntime, SimpleNamespace(context=SimpleNamespace(**context))))
    assert update["candidate"] is None
    assert backend.job.base_digest == weights
    assert (backend.job.init_critic is not None) is goes_on
    assert [event.kind for event in home.ledger.events()] == ["training.prepared", "training.failed"]
