"""What a campaign cost: every breakdown adds up, gains are divided by what they say, sealed races keep their secret."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pawl.cli.main import app
from pawl.core import NotFound, Usage
from pawl.evals.labels import LabelsTask
from pawl.evals.task import Direction
from pawl.graph.costs import SHARED, CostReport, cost_report
from pawl.graph.store import Store
from pawl.release import Status
from pawl.safety.budget import Budget, EventKind, Limits

from .report_fixtures import CAMPAIGN, meter, plant

METRIC = LabelsTask.metric
CENT = Decimal("0.01")


def seal_broken(store: Store) -> None:
    """Enter the true cost of every sealed race, as the end of a campaign does."""
    for bill in [event for event in store.meter.events(CAMPAIGN) if event.kind is EventKind.BILL]:
        true = Usage(input_tokens=777, cpu_seconds=2.5)
        meter(store).add(CAMPAIGN, f"{bill.key}/true", "judge", bill.round, true, kind=EventKind.SEALED)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return plant(tmp_path / "home", rounds=4, budget=Budget(usd=1.0, round=Limits(tokens=100_000)))


def report(store: Store) -> CostReport:
    return cost_report(store, CAMPAIGN, METRIC)


def test_every_breakdown_adds_up_to_the_meter_exactly(store: Store):
    lost = Usage(input_tokens=17, cpu_seconds=0.123)
    meter(store).add(CAMPAIGN, "lease/1", "task_agent", 2, lost, model="m", kind=EventKind.LOST)
    seal_broken(store)
    found = report(store)
    assert found.total.nano_dollars == store.meter.money(CAMPAIGN) > 0
    spent = store.meter.spent(CAMPAIGN)
    for lines in (found.nodes, found.levers, found.models, found.rounds):
        assert sum(line.nano_dollars for line in lines) == found.total.nano_dollars
        assert (
            sum((line.usage for line in lines), Usage()).repeatable == found.total.usage.repeatable == spent.repeatable
        )
        assert sum(line.usage.cpu_seconds for line in lines) == pytest.approx(spent.cpu_seconds)
        assert sum(line.usage.gpu_seconds for line in lines) == pytest.approx(spent.gpu_seconds)
    assert (found.losses, found.lost.usage) == (1, lost)
    assert found.total.prices == sorted({event.prices for event in store.meter.events(CAMPAIGN)})
    assert SHARED in [line.of for line in found.levers]


def test_a_gain_is_that_of_promoted_candidates_over_all_that_its_lever_cost(store: Store):
    gains = {gain.lever: gain for gain in report(store).gains}
    scaffold, weights = gains["scaffold"], gains["weights"]
    assert (scaffold.pulled, scaffold.promoted) == (2, 1)  # of rounds 1 and 3, the second was let go
    assert (weights.pulled, weights.promoted) == (2, 2)
    assert scaffold.gain == pytest.approx(0.05)
    assert weights.gain == pytest.approx(0.10)
    events = [event for event in store.meter.events(CAMPAIGN) if event.lever == "weights"]
    assert {event.round for event in events} == {2, 4}
    dollars = sum(event.nano_dollars for event in events) / 1e9
    assert weights.per_dollar == pytest.approx(0.10 / dollars)


def test_a_metric_where_less_is_better_turns_the_gain(store: Store):
    less = METRIC.model_copy(update={"direction": Direction.MINIMISE})
    [scaffold, _] = cost_report(store, CAMPAIGN, less).gains
    assert scaffold.gain == pytest.approx(-0.05)


def test_nothing_promoted_or_an_unknown_metric_shows_no_gain(store: Store, tmp_path: Path):
    assert [gain.gain for gain in cost_report(store, CAMPAIGN, None).gains] == [None, None]
    none = cost_report(plant(tmp_path / "none", rounds=0, reveal=False), CAMPAIGN, METRIC)
    assert [(gain.pulled, gain.gain, gain.per_dollar) for gain in none.gains] == [(0, None, None)] * 2


def test_a_fork_counts_no_gain_that_another_campaign_paid_for(store: Store):
    row = store.campaigns.get(CAMPAIGN)
    kept = {"settings": row.settings, "fingerprint": row.fingerprint, "schema_version": row.schema_version}
    store.campaigns.create("fork", task=row.task, seed=row.seed, **kept)
    store.copy_rounds(CAMPAIGN, "fork", before=3)
    assert [gain.pulled for gain in cost_report(store, "fork", METRIC).gains] == [0, 0]


def test_sealed_races_show_their_bill_alone_until_the_reveal(tmp_path: Path):
    store = plant(tmp_path / "home", rounds=2, reveal=False, status=Status.RUNNING)
    before = report(store)
    assert [(each.round, each.race.value) for each in before.sealed] == [
        (1, "holdout"),
        (1, "adversarial"),
        (2, "holdout"),
        (2, "adversarial"),
    ]
    assert [each.true for each in before.sealed] == [None] * 4
    assert {each.billed.usage for each in before.sealed} == {Usage(input_tokens=2_000, output_tokens=20)}
    assert before.true_total is None
    assert not before.revealed


def test_after_the_reveal_the_true_cost_stands_beside_the_bill_and_the_total_stays(tmp_path: Path):
    store = plant(tmp_path / "home", rounds=2)
    before = report(store)
    seal_broken(store)
    after = report(store)
    assert after.revealed
    assert after.total == before.total
    assert [each.true.usage.input_tokens for each in after.sealed if each.true] == [777] * 4
    assert after.true_total is not None
    billed = sum(each.billed.nano_dollars for each in after.sealed)
    true = sum(each.true.nano_dollars for each in after.sealed if each.true)
    assert after.true_total.nano_dollars == after.total.nano_dollars - billed + true


def test_budgets_show_what_is_left_of_each_limit(store: Store):
    campaign, of_round = report(store).budgets
    assert (campaign.scope, campaign.unit, campaign.limit) == ("campaign", "US dollars", "$1.00")
    assert (of_round.scope, of_round.of, of_round.limit) == ("round", f"{CAMPAIGN}/4", "100,000")
    taken = sum(event.usage.tokens for event in store.meter.events(CAMPAIGN) if event.round == 4)
    assert of_round.settled == f"{taken:,}"
    assert of_round.left == f"{100_000 - taken:,}"


def test_an_unknown_campaign_is_refused(store: Store):
    with pytest.raises(NotFound, match="No campaign 'nobody'"):
        cost_report(store, "nobody", METRIC)


def pawl(*words: str, home: Path) -> str:
    done = CliRunner().invoke(app, [*words, "--home", str(home)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_shown_parts_add_up_to_the_shown_total_to_the_cent(store: Store):
    home = Path(str(store.db.engine.url.database)).parent
    told = json.loads(pawl("cost", CAMPAIGN, "--json", home=home))
    assert CostReport.model_validate(told) == report(store)
    shown = pawl("cost", CAMPAIGN, home=home)
    total = Decimal(told["total"]["nano_dollars"]) / 10**9
    for name in ("lever", "node", "model", "round"):
        table = shown.partition(f"By {name}")[2].partition("\n\n")[0]
        *parts, last = [Decimal(found.replace(",", "")) for found in re.findall(r"\$([\d.,]+)", table)]
        assert abs(sum(parts) - last) < CENT / 2
        assert abs(last - total) < CENT / 2
    assert "sealed until the reveal" not in shown
    assert told["total"]["prices"][0] in shown
