import time

import pytest

from pawl.core import BudgetExhausted, Database, Usage
from pawl.safety.budget import Budget, Meter

from .postgres_fixtures import database, postgres_server  # noqa: F401

ROLLOUT = Usage(input_tokens=100, output_tokens=20, verifications=1, cpu_seconds=0.5, usd=0.01)
TRAINING = Usage(training_steps=8, cpu_seconds=30.0)


def spent_on_two_rounds(db: Database) -> Meter:
    meter = Meter(db)
    for number in (0, 1):
        meter.add("c1", f"{number}/evaluator", "evaluator", number, ROLLOUT, model="m")
    meter.add("c1", "1/trainer", "trainer", 1, TRAINING, lever="weights")
    meter.add("c2", "1/trainer", "trainer", 1, TRAINING, lever="weights")
    return meter


def test_usage_adds_up_in_whole_by_round_by_node_and_by_lever(db: Database):
    meter = spent_on_two_rounds(db)
    assert meter.spent("c1") == ROLLOUT + ROLLOUT + TRAINING
    assert meter.by_round("c1") == {0: ROLLOUT, 1: ROLLOUT + TRAINING}
    assert meter.by_node("c1") == {"evaluator": ROLLOUT + ROLLOUT, "trainer": TRAINING}
    assert meter.by_lever("c1") == {"weights": TRAINING}
    assert meter.spent("none") == Usage()


def test_a_step_that_is_run_again_counts_once(db: Database):
    meter = spent_on_two_rounds(db)
    before = meter.spent("c1")
    meter.add("c1", "1/trainer", "trainer", 1, TRAINING + TRAINING, lever="weights")
    assert meter.spent("c1") == before


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(tokens=240), r"budget of tokens: 240 of 240.*--budget-tokens"),
        (Budget(usd=0.015), r"US dollars: 0\.02 of 0\.015.*--budget-usd"),
        (Budget(seconds=60), r"seconds: \d+.* of 60.*--budget-minutes"),
        (Budget(verifications=1), r"verifications: 2 of 1"),
        (Budget(training_steps=8, tokens=10**9), r"training steps: 8 of 8"),
    ],
)
def test_a_limit_that_is_reached_is_named_with_how_to_raise_it(db: Database, budget: Budget, said: str):
    meter = spent_on_two_rounds(db)
    with pytest.raises(BudgetExhausted, match=said):
        meter.check("c1", budget, started=time.time() - 61)


def test_below_every_limit_and_without_any_the_campaign_goes_on(db: Database):
    meter = spent_on_two_rounds(db)
    meter.check("c1", Budget(tokens=241, usd=0.03, seconds=60, verifications=3, training_steps=9), time.time())
    meter.check("c1", Budget(), started=0.0)
