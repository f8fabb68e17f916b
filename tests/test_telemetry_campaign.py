"""One campaign, whatever processes work on it, is one trace; and nothing that is sealed or secret is in it."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pawl.core import ArtifactStore, Home
from pawl.graph.store import Store
from pawl.nodes.decision import Lever
from pawl.safety.telemetry import names

from .child_campaign import small_rules
from .session_fixtures import CAMPAIGN, Served, processes, served
from .telemetry_fixtures import Collector, Told, collector

APPROVAL = {"decisions": [{"type": "approve"}], "actor": "ada", "reason": "CANARY-REASON"}
HEADER_KEY = "CANARY-HEADER"


@dataclass(frozen=True)
class Campaign:
    """What a campaign told a collector, and its home."""

    found: Collector
    home: Path
    judge_environment: bytes
    langsmith: bytes
    """All that LangSmith was told."""
    killed: str
    """Instance of the process that was killed; empty where none was."""


@pytest.fixture(scope="module")
def server() -> Served:
    return served()


def environment(url: str, langsmith: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={HEADER_KEY}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_ENDPOINT": langsmith,
        "LANGSMITH_API_KEY": HEADER_KEY,
        "LANGSMITH_PROJECT": "pawl-test",
    }


def play(server: Served, home: Path, lever: Lever, rules: dict[str, Any], fault: str = "") -> Campaign:
    """Run a campaign that may be killed at a point, waits at the gate, and is resumed."""
    langsmith = collector(status=202, reply=b"{}")
    with collector() as found, langsmith as smith, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(found.url, smith.url).items():
            patch.setenv(name, value)
        with processes(server, home, lever) as children:
            child = children.start(rules=rules, fault=fault)
            assert child.until('"node": "task_agent"')
            judge = judge_environment(child.pid)
            killed = ""
            if fault:
                assert child.wait() == -signal.SIGKILL, child.said()
                [killed] = {each.instance for each in found.spans}
                child = children.start()
            assert (child.wait(), child.said()[-1]["kind"]) == (0, "waiting"), child.said()
            assert children.run(answer=APPROVAL)[0] == 0
            status, said = children.run()
            assert (status, said[-1]["kind"]) == (0, "finished"), said
        return Campaign(found, home, judge, b"".join(smith.bodies), killed)


def judge_environment(controller: int) -> bytes:
    """The environment of the judge that a controller started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == controller and b"pawl.evals.judge" in (entry / "cmdline").read_bytes():
                    return (entry / "environ").read_bytes()
            except OSError:
                continue
    raise AssertionError("no judge")


@pytest.fixture(scope="module")
def campaign(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    rules = small_rules(items=4, attempts=2).model_dump(mode="json")
    return play(server, tmp_path_factory.mktemp("traced") / "home", Lever.SCAFFOLD, rules)


def test_a_campaign_over_several_processes_is_one_connected_trace(campaign: Campaign) -> None:
    check_connected(campaign)
    spans = campaign.found.spans
    assert len({each.instance for each in spans}) == 2  # whoever only answers tells nothing
    [root] = [each for each in spans if not each.parent]
    assert root.attributes[names.STATUS] == "finished"
    [round_one] = [each for each in spans if each.name == "round 1"]
    assert (round_one.parent, round_one.attributes[names.FATE]) == (root.id, "promoted")
    nodes = [each for each in spans if each.name.startswith("node ") and each.name != "node meta_agent"]
    assert {each.parent for each in nodes} <= {round_one.id, root.id}
    assert round_one.start <= min(each.start for each in nodes if each.parent == round_one.id)
    told = [each.attributes[names.NODE] for each in sorted(nodes, key=lambda each: each.start)]
    assert told == [
        *("task_agent", "evaluator", "feedback_agent", "scaffold_editor"),
        *("gauntlet", "shadow", "gate", "gate", "promoter", "monitor"),
    ]
    [promotion] = [each for each in spans if each.name == "promotion"]
    [approval] = [each for each in spans if each.name == "approval"]
    assert promotion.attributes[names.ACTOR] == approval.attributes[names.ACTOR] == "ada"
    assert approval.attributes[names.VERDICT] == "approve"
    assert approval.end <= promotion.start
    runs = [each.attributes[names.STATUS] for each in sorted(spans, key=lambda each: each.start) if each.name == "run"]
    assert runs == ["waiting", "finished"]


def check_connected(campaign: Campaign) -> None:
    """Every span is in the campaign's trace, told once, and hangs together, but for what a killed node left behind."""
    spans = campaign.found.spans
    store = Store(Home(campaign.home), None)
    try:
        trace = store.campaigns.get(CAMPAIGN).settings["trace_id"]
        ledger = store.ledger.events(CAMPAIGN)
    finally:
        store.close()
    assert {each.trace for each in spans} == {trace} == {each.trace_id for each in ledger}
    ids = [each.id for each in spans]
    assert len(ids) == len(set(ids))
    lost = [each for each in spans if each.parent and each.parent not in set(ids)]
    assert {each.instance for each in lost} <= {campaign.killed}
    assert {each.schema for each in spans} == {names.SCHEMA_URL}


def test_what_is_told_of_models_tools_and_races_adds_up_to_what_was_done(campaign: Campaign) -> None:
    spans = campaign.found.spans
    calls = [each for each in spans if each.client]
    assert {each.attributes["gen_ai.provider.name"] for each in calls} == {"pawl"}
    agents = {each.id: each for each in spans if each.name == "invoke_agent labels"}
    assert {each.parent for each in calls} <= set(agents)
    assert all(each.attributes["gen_ai.usage.output_tokens"] >= 1 for each in calls)
    assert {each.name for each in spans if each.parent in agents} == {
        "sandbox run",
        "execute_tool verify",
        calls[0].name,
    }
    races = {each.name: each.attributes for each in spans if each.name.startswith("race ")}
    assert {each[names.OUTCOME] for each in races.values()} == {"passed"}
    assert races["race holdout"][names.BILL_TOKENS] > 0
    below = [each for each in spans if each.parent in {race.id for race in spans if race.name == "race holdout"}]
    assert below == []
    [reveal] = [each for each in spans if each.name == "reveal"]
    true_costs = [attributes for name, attributes in reveal.events if name == "race"]
    assert [each[names.RACE] for each in true_costs] == ["holdout", "adversarial"]
    assert all(each[names.OUTPUT_TOKENS] > 0 for each in true_costs)
    points = campaign.found.metrics
    assert max(point.as_int for point in points[names.ROUNDS]) == 1
    assert {value(point, names.RACE) for point in points[names.RACES]} == {"target", "holdout", "adversarial"}
    assert {value(point, names.NODE) for point in points[names.COST]} >= {"task_agent", "gauntlet", "judge"}
    assert sum(point.sum for point in points["gen_ai.client.token.usage"]) > 0


def value(point: Any, name: str) -> str:
    return next(each.value.string_value for each in point.attributes if each.key == name)


def test_nothing_that_is_sealed_or_secret_leaves_in_any_byte(server: Served, campaign: Campaign) -> None:
    everything = b"".join(campaign.found.bodies)
    store = Store(Home(campaign.home), None)
    try:
        [revealed] = [each for each in store.ledger.events(CAMPAIGN) if each.kind == "campaign.revealed"]
        reveal = ArtifactStore(Home(campaign.home).artifacts).get_json(str(revealed.body["reveal"]))
    finally:
        store.close()
    text = json.dumps(reveal)
    sealed = {word for word in text.replace('"', " ").split() if word.startswith("labels-")}
    visible = {each.attributes[names.ITEM] for each in campaign.found.spans if names.ITEM in each.attributes}
    assert len(sealed) > 20
    assert visible
    assert not sealed & visible
    key = server.endpoint.api_key
    assert key is not None
    secrets = [*sealed, reveal["secret"], key.get_secret_value(), HEADER_KEY, "CANARY-REASON", "Name the label that"]
    for secret in secrets:
        assert secret.encode() not in everything, secret
    for secret in [*sealed, reveal["secret"], key.get_secret_value(), HEADER_KEY]:
        assert secret.encode() not in campaign.langsmith, secret
    assert campaign.found.headers[0]["x-key"] == HEADER_KEY
    assert HEADER_KEY.encode() not in campaign.judge_environment
    assert b"OTEL_" not in campaign.judge_environment
    assert b"LANGSMITH_" not in campaign.judge_environment
    assert b"PATH=" in campaign.judge_environment


def test_every_name_is_of_the_pinned_conventions_or_of_pawls_own(campaign: Campaign) -> None:
    known = {each for each in vars(names).values() if isinstance(each, str)}
    told = {key for each in campaign.found.spans for key in each.attributes}
    told |= {key for each in campaign.found.spans for _, event in each.events for key in event}
    assert told <= known
    assert set(campaign.found.metrics) <= known


def test_with_langsmiths_variables_the_graphs_runs_arrive_there_too(campaign: Campaign) -> None:
    for name in ("task_agent", "gauntlet", "pawl-test", CAMPAIGN):
        assert f'"{name}"'.encode() in campaign.langsmith


@pytest.mark.slow
def test_with_a_death_on_the_way_the_trace_goes_from_the_diagnosis_through_the_training_to_the_promotion(
    server: Served, tmp_path: Path
) -> None:
    rules = small_rules().model_dump(mode="json")
    campaign = play(server, tmp_path / "home", Lever.WEIGHTS, rules, fault="gauntlet.judged:1")
    check_connected(campaign)
    spans = campaign.found.spans
    runs = [each.attributes[names.STATUS] for each in sorted(spans, key=lambda each: each.start) if each.name == "run"]
    assert runs == ["waiting", "finished"]  # the first was killed, and told nothing of itself
    assert any(each.instance == campaign.killed for each in spans)
    [job] = [each for each in spans if each.name == "training job"]
    [round_one] = [each for each in spans if each.name == "round 1"]
    [train] = [each for each in spans if each.name == "train"]
    steps = [each for each in spans if each.name == "optimiser step"]
    assert job.parent == round_one.id
    assert train.parent == job.id
    assert {each.parent for each in steps} == {train.id}
    assert len(steps) == job.attributes[names.STEPS]
    first: dict[str, Told] = {}
    for each in sorted(spans, key=lambda each: each.start):
        first.setdefault(each.name, each)
    order = [first[name].start for name in ("node feedback_agent", "train", "race target", "promotion", "node monitor")]
    assert order == sorted(order)
