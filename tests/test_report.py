"""The page about a campaign: whatever its state, whoever wrote its words, whole and harmless."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pawl.cli.main import app
from pawl.cli.rounds import HEADINGS, round_row
from pawl.core import ConfigurationError, NotFound
from pawl.evals.labels import LabelsTask
from pawl.graph.report import CampaignReport, gather, render
from pawl.graph.session import Session
from pawl.graph.store import Store
from pawl.nodes.state import ApprovalMode
from pawl.release import Status

from .child_campaign import small_rules
from .report_fixtures import CAMPAIGN, HOSTILE, plant
from .session_fixtures import SEED, served

METRIC = LabelsTask.metric
HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
SECTIONS = ("target", "levers", "races", "approvals", "cost", "failures", "live", "estimated", "record")


class Parsed(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(store: Store) -> str:
    return render(gather(store, CAMPAIGN, METRIC))


def check_whole(html: str) -> Parsed:
    """What holds for every page: its sections, its own policy, nothing from outside, nothing that runs."""
    parsed = Parsed(html)
    assert [each["id"] for each in parsed.named("h2") if each.get("id") in SECTIONS] == [*SECTIONS]
    assert parsed.tags.count(("html", {"lang": "en"})) == 1
    [policy] = [each["content"] for each in parsed.named("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    assert not {"script", "iframe", "object", "embed", "img", "form", "base", "textarea"} & {
        tag for tag, _ in parsed.tags
    }
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src", "xlink:href"):
            assert re.match(r"#|data:,$", attributes.get(name) or "#"), (tag, attributes)
    ids = [each["id"] for _, each in parsed.tags if "id" in each]
    assert len(ids) == len(set(ids))
    links = [str(each["href"])[1:] for _, each in parsed.tags if str(each.get("href", "")).startswith("#")]
    assert set(links) <= set(ids)
    assert len(parsed.named("caption")) == len(parsed.named("table"))
    assert all(each.get("aria-label") for each in parsed.named("svg"))
    return parsed


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CampaignReport, str]]:
    store = plant(tmp_path_factory.mktemp("hostile"), rounds=2, waiting=True, status=Status.FAILED, text=HOSTILE)
    report = gather(store, CAMPAIGN, METRIC)
    yield report, render(report)
    store.close()


def test_nothing_that_others_wrote_becomes_markup_or_hides_what_stands_beside_it(hostile: tuple[CampaignReport, str]):
    _, html = hostile
    parsed = check_whole(html)
    assert html.count("</style>") == 1
    assert "&lt;script&gt;document.title=" in html
    assert "{{ 7*7 }}" in parsed.text
    assert not HIDDEN.search(html)
    assert "\\u202egnp.exe" in parsed.text
    assert "W" * 6_001 not in html
    assert "more characters)" in parsed.text
    assert len(html.encode()) < 1_000_000


def test_a_value_that_the_template_prints_without_care_is_as_harmless(hostile: tuple[CampaignReport, str]):
    html = render(hostile[0].model_copy(update={"pawl": HOSTILE}))
    check_whole(html)
    assert not HIDDEN.search(html)


def test_what_programs_read_is_as_it_was_written(hostile: tuple[CampaignReport, str]):
    report, _ = hostile
    again = CampaignReport.model_validate(json.loads(json.dumps(report.dump())))
    assert again == report
    assert again.rounds[0].row.decision.reason == HOSTILE


def test_a_finished_campaign_tells_what_the_reveal_opened(tmp_path: Path):
    store = plant(tmp_path, rounds=3)
    report = gather(store, CAMPAIGN, METRIC)
    parsed = check_whole(render(report))
    assert report.problems == []
    assert "+0.123" in parsed.text  # the mean effect in the sealed races
    assert "sealed until the reveal" not in parsed.text
    assert "guard:" in parsed.text
    assert f"pawl rollback {report.campaign.task}/live --as NAME --reason TEXT" in parsed.text
    assert len(parsed.named("svg")) == 4


def test_an_objective_that_was_argued_for_stands_beside_the_rules(tmp_path: Path):
    report = gather(plant(tmp_path, rounds=2, text="since so it is"), CAMPAIGN, METRIC)
    assert (
        "group_relative (by the written rule it would be entropic): since so it is" in check_whole(render(report)).text
    )
    said = round_row(report.rounds[1].row)
    assert "Objective group_relative, where the rule says entropic: since so it is" in said[HEADINGS.index("why")]
    assert "Objective" not in round_row(report.rounds[0].row)[HEADINGS.index("why")]


@pytest.mark.parametrize("status", [Status.RUNNING, Status.FAILED, Status.STOPPED, Status.PARKED])
def test_sealed_races_stay_shut_while_a_campaign_goes_on(tmp_path: Path, status: Status):
    report = gather(plant(tmp_path, rounds=2, reveal=False, status=status), CAMPAIGN, METRIC)
    parsed = check_whole(render(report))
    assert [race.revealed for race in report.races] == [None] * 6
    assert "0.123456789" not in json.dumps(report.dump())
    assert "sealed until the reveal" in parsed.text


def test_a_waiting_campaign_says_what_to_type(tmp_path: Path):
    store = plant(tmp_path, rounds=1, reveal=False, status=Status.WAITING, waiting=True)
    parsed = check_whole(page(store))
    assert f"pawl approve {CAMPAIGN} feedfeed --as NAME --reason TEXT" in parsed.text
    assert "Round 2 is under way" in parsed.text


def test_a_campaign_without_a_round_has_a_page(tmp_path: Path):
    parsed = check_whole(page(plant(tmp_path, rounds=0, reveal=False, status=Status.RUNNING)))
    assert "No round has finished yet." in parsed.text
    assert parsed.named("svg") == []


def test_fifty_rounds_fit_on_a_page_that_stays_small(tmp_path: Path):
    store = plant(tmp_path, rounds=50)
    html = page(store)
    check_whole(html)
    assert html.count("<article") == 50
    assert len(html.encode()) < 1_000_000


def test_the_same_records_give_the_same_page(tmp_path: Path):
    store = plant(tmp_path, rounds=2)
    report = gather(store, CAMPAIGN, METRIC)
    again = gather(store, CAMPAIGN, METRIC).model_copy(update={"made": report.made})
    assert again == report
    assert render(again) == render(report)


def test_what_is_missing_is_named_and_the_rest_is_told(tmp_path: Path):
    store = plant(tmp_path, rounds=2)
    for file in store.artifacts.root.glob("*/*"):
        file.unlink()
    report = gather(store, CAMPAIGN, None)
    parsed = check_whole(render(report))
    assert "Not everything could be read" in parsed.text
    assert any("trajectories of round 1" in problem for problem in report.problems)
    assert any("judge revealed" in problem for problem in report.problems)
    assert len(report.rounds) == 2


def test_the_command_writes_the_page_and_the_data(tmp_path: Path):
    plant(tmp_path / "home").close()
    file, run = tmp_path / "page.html", CliRunner().invoke
    told = run(app, ["report", CAMPAIGN, "--html", str(file), "--home", str(tmp_path / "home")])
    assert str(file) in told.output
    check_whole(file.read_text(encoding="utf-8"))
    data = run(app, ["report", CAMPAIGN, "--json", "--home", str(tmp_path / "home")])
    assert CampaignReport.model_validate(json.loads(data.stdout)).campaign.id == CAMPAIGN
    for words, kind in (
        (["report", CAMPAIGN], ConfigurationError),
        (["report", CAMPAIGN, "--html", str(tmp_path)], ConfigurationError),
        (["report", "nobody", "--json"], NotFound),
    ):
        refused = run(app, [*words, "--home", str(tmp_path / "home")])
        assert isinstance(refused.exception, kind), words


def test_a_campaign_that_really_ran_is_told_in_full(tmp_path: Path):
    server = served()

    async def campaign() -> tuple[CampaignReport, CampaignReport]:
        async with Session(tmp_path, settings=server.settings(), factory=server.factory()) as session:
            rules = small_rules(items=4, attempts=2, approve=ApprovalMode.ASK)
            await session.start("labels", rules=rules, seed=SEED, campaign="c")
            waiting = await session.report("c")
            [request] = session.pending("c")
            session.approve("c", request.id, by="ada", reason="the races look right")
            await session.resume("c")
            return waiting, await session.report("c")

    waiting, done = asyncio.run(campaign())
    assert [race.race.value for race in waiting.races] == ["target", "holdout", "adversarial"]
    assert [race.revealed for race in waiting.races] == [None] * 3
    assert waiting.approvals[0].decided is None
    assert check_whole(render(waiting)).text.count("sealed until the reveal") >= 2

    [row] = done.rounds
    assert row.row.promoted
    assert row.realised_gain is not None
    assert [race.revealed is not None for race in done.races] == [False, True, True]
    [approval] = done.approvals
    assert (approval.actor, approval.reason, approval.verdict) == ("ada", "the races look right", "approve")
    assert approval.decided is not None
    assert done.live is not None
    assert done.live.version.id == row.row.live
    assert done.costs.total.usage.tokens > 0
    assert [each.true for each in waiting.costs.sealed] == [None, None]
    assert [each.true is not None for each in done.costs.sealed] == [True, True]
    assert [each.billed for each in done.costs.sealed] == [each.billed for each in waiting.costs.sealed]
    parsed = check_whole(render(done))
    assert "the races look right" in parsed.text
    assert done.problems == []
    shutil.rmtree(tmp_path, ignore_errors=True)
