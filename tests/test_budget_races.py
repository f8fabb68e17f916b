"""Promises about the bill of a sealed race: what its rollouts may use, and whom it is too small for."""

import asyncio
from pathlib import Path

import pytest

from pawl.core import ArtifactStore, ConfigurationError, ModelCall, RolloutStop, Settings, Trajectory, Usage, Version
from pawl.evals.bills import CAPABLE_BILL, billed_limits, require_bill, timed_limits
from pawl.evals.evaluate import evaluate
from pawl.evals.races import RaceRules
from pawl.evals.registry import TaskEnvironment, load_task
from pawl.evals.task import Split
from pawl.graph.session import Session
from pawl.nodes.state import CampaignRules
from pawl.safety import default_sandbox
from pawl.serving.runner import RolloutLimits

from .evals_fixtures import planted_server
from .test_evals_judge import RULES, SKILLS, Bench


@pytest.mark.parametrize("name", ["labels", "trimul"])
async def test_the_bundled_agents_fit_into_the_default_bill_with_room_for_more_samples(tmp_path: Path, name: str):
    sandbox, store = default_sandbox(), ArtifactStore(tmp_path / "artifacts")
    task = load_task(name, TaskEnvironment(sandbox=sandbox, cache=tmp_path))
    version = Version(scaffold=store.put_tree(task.seed_scaffold(False)), base_model="planted")
    tight = RaceRules().rollout_bill
    third = Usage(input_tokens=tight.input_tokens // 3, output_tokens=tight.output_tokens // 3)
    with planted_server() as server:  # it counts bytes as tokens
        [done] = await evaluate(
            version,
            [(task.items(Split.OPTIMISE, 1, 1)[0], 3)],
            task=Ungraded(task),
            store=store,
            endpoint=server.endpoint,
            sandbox=sandbox,
            work=tmp_path / "work",
            limits=billed_limits(third),
        )
    assert done.stop is RolloutStop.ANSWERED, done.error
    require_bill([done], RaceRules())


class Ungraded:
    """A task whose outputs aren't graded, which takes long; their cost is what is asked."""

    def __init__(self, task):
        self.name, self.metric, self.tools = task.name, task.metric, task.tools

    async def grade(self, item, output):
        from pawl.core import Grade

        return Grade(value=0.0, valid=True)


async def test_a_sealed_race_never_takes_more_than_it_is_billed(tmp_path: Path):
    small = Usage(input_tokens=60, output_tokens=1, verifications=1)
    rules = RULES.model_copy(update={"rollout_bill": small})
    bench = Bench(tmp_path / "home")
    greedy = b"""
from client import Policy, answer
policy = Policy()
for _ in range(200):
    policy.complete("A", max_tokens=1)
answer({"label": "C"})
"""
    files = {**bench.task.seed_scaffold(False), "agent.py": greedy}
    spendthrift = bench.live.model_copy(update={"scaffold": bench.store.put_tree(files)})
    with planted_server(SKILLS) as server:
        judge = await bench.judge(server, rules)
        try:
            asked = bench.request("1", None).model_copy(update={"candidate": spendthrift})
            result = await judge.race(asked)
            [race] = (await judge.reveal("c")).races
        finally:
            await judge.close()
    assert 0 < race.usage.input_tokens <= result.bill.input_tokens
    assert 0 < race.usage.output_tokens <= result.bill.output_tokens
    assert all(effect["value"] <= 0 for effect in race.evidence["effects"]), "what needs more than its bill has failed"


def test_a_bill_too_small_for_what_is_live_is_refused_with_what_it_needs():
    call = ModelCall(model="m", prompt="x" * 9_000, completion="y", usage=Usage(input_tokens=3_000, output_tokens=300))
    played = Trajectory(version="a" * 64, item="i", seed=1, steps=[call, call], stop=RolloutStop.ANSWERED)
    with pytest.raises(ConfigurationError, match=r"12,256 and 600 .*input_tokens=24512, output_tokens=1200"):
        require_bill([played] * 3, RaceRules())
    require_bill([played] * 3, RaceRules(rollout_bill=CAPABLE_BILL))
    require_bill([], RaceRules())


def test_a_rollout_that_may_write_more_has_more_time_sealed_or_not():
    small, large = timed_limits(RaceRules().rollout_bill), timed_limits(CAPABLE_BILL)
    assert large.sandbox.wall_seconds > 2 * small.sandbox.wall_seconds > 2 * RolloutLimits().sandbox.wall_seconds
    assert billed_limits(CAPABLE_BILL).sandbox == large.sandbox
    assert large.calls == RolloutLimits().calls


def test_a_hosted_model_is_billed_for_text_unless_the_campaign_says_otherwise(tmp_path: Path):
    own = Usage(input_tokens=9, output_tokens=9)

    async def bills() -> list[Usage]:
        found = []
        for settings, races in (
            (Settings(model_url="http://10.0.0.7/v1"), RaceRules()),
            (Settings(), RaceRules()),
            (Settings(model_url="http://10.0.0.7/v1"), RaceRules(rollout_bill=own)),
        ):
            async with Session(tmp_path / str(len(found)), settings=settings) as session:
                name = session.create("labels", rules=CampaignRules(races=races))
                kept = CampaignRules.model_validate(session.store.campaigns.get(name).settings["rules"])
                found.append(kept.races.rollout_bill)
        return found

    assert asyncio.run(bills()) == [CAPABLE_BILL, RaceRules().rollout_bill, own]


def test_a_large_bill_is_not_cut_off_by_the_limit_on_rollouts_elsewhere():
    large = Usage(input_tokens=900_000, output_tokens=100_000)
    assert billed_limits(large).calls.tokens == 1_000_000
    assert billed_limits(Usage()).calls.tokens == RolloutLimits().calls.tokens
