"""Promises of the races: null candidates stay out, real lifts get in, and doubt never promotes."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawl.core import Grade, RolloutStop, Trajectory
from pawl.evals import Direction, Effect, Guard, Item, Metric, Outcome, RaceRules, Split, paired_effects, target_race
from pawl.evals.races import Verdict, adversarial_race, holdout_race
from pawl.evals.statistics import alpha_of_race, mean_bounds, paired_interval, sign_flip_pvalue

RULES = RaceRules(resamples=2_000)
MARGIN = 0.25
SLICES = "abcd"
METRIC = Metric(name="m", unit="", direction=Direction.MAXIMISE, worst=-2.0, best=4.0, margin=MARGIN)


def effects_of(values: list[float], **more: object) -> list[Effect]:
    return [Effect(item=str(i), slice=SLICES[i % 4], value=v, **more) for i, v in enumerate(values)]


def simulated_race(draw: Callable[[int], np.ndarray], number: int) -> Verdict:
    """The judge's two looks, over effects from a simulation."""
    alpha = alpha_of_race(RULES.alpha, number) / RULES.looks
    target: list[float] = []
    kept: list[float] = []
    for _ in range(RULES.looks):
        target += draw(RULES.holdout).tolist()
        kept += draw(RULES.regression).tolist()
        effects = effects_of(target)
        everything = [*effects, *effects_of(kept)]
        guards = {s: Guard(effects=[e.value for e in everything if e.slice == s], margin=MARGIN) for s in SLICES}
        verdict = holdout_race(effects, guards, alpha=alpha, rules=RULES, seed=number)
        if verdict.outcome is not Outcome.INCONCLUSIVE or verdict.mean <= 0:
            break
    return verdict


def null_normal(rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    return lambda n: rng.normal(0.0, 0.6, n)


def null_floor(rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Both versions fail one item in six, independently: rare, large effects of either sign."""
    return lambda n: 2.5 * ((rng.random(n) < 1 / 6).astype(float) - (rng.random(n) < 1 / 6))


@pytest.mark.parametrize("null", [null_normal, null_floor])
def test_a_campaign_of_null_candidates_promotes_one_with_probability_at_most_alpha(null):
    rng = np.random.default_rng(5)
    campaigns = 40
    wrong = sum(
        any(simulated_race(null(rng), number).outcome is Outcome.PASSED for number in range(1, 5))
        for _ in range(campaigns)
    )
    # Three standard errors of a binomial at alpha: a test at twice its level would exceed it.
    limit = campaigns * RULES.alpha + 3 * math.sqrt(campaigns * RULES.alpha * (1 - RULES.alpha))
    assert wrong <= limit


def test_a_planted_lift_of_dense_rewards_passes_early_in_a_campaign():
    rng = np.random.default_rng(6)
    passed = sum(simulated_race(lambda n: rng.normal(0.5, 0.8, n), 2).outcome is Outcome.PASSED for _ in range(40))
    assert passed >= 32


def test_a_repair_of_one_failure_in_six_passes_though_most_effects_are_nought():
    rng = np.random.default_rng(7)
    passed = sum(
        simulated_race(lambda n: 2.5 * (rng.random(n) < 1 / 6), 1).outcome is Outcome.PASSED for _ in range(40)
    )
    assert passed >= 32


def test_the_shares_of_alpha_sum_to_alpha():
    assert sum(alpha_of_race(0.05, k) for k in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)


def test_the_sign_flip_test_is_exact_on_few_items():
    assert sign_flip_pvalue([1.0, 2.0, 3.0], seed=0, resamples=1_000) == pytest.approx(1 / 8)
    assert sign_flip_pvalue([0.0, 0.0, 0.0], seed=0, resamples=1_000) == 1.0


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=20), st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_intervals_and_bounds_hold_the_mean_and_repeat(values, seed):
    low, high = paired_interval(values, seed)
    assert (low, high) == paired_interval(values, seed)
    middle = sum(values) / len(values)
    assert low - 1e-9 <= middle <= high + 1e-9
    lower, upper = mean_bounds(values, 0.95)
    assert lower - 1e-9 <= middle <= upper + 1e-9


def test_being_better_on_the_whole_does_not_excuse_a_slice_that_is_worse():
    good, bad = [1.0, 1.1, 0.9] * 8, [-0.8, -0.9, -1.0, -0.7, -0.8, -0.9]
    guards = {"good": Guard(effects=good, margin=MARGIN), "bad": Guard(effects=bad, margin=MARGIN)}
    verdict = holdout_race(effects_of(good + bad), guards, alpha=0.05, rules=RULES, seed=1)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.why == ["inferior:bad"]


def test_a_slice_with_too_few_items_leaves_the_race_inconclusive():
    guards = {"rare": Guard(effects=[1.0] * 3, margin=MARGIN)}
    verdict = holdout_race(effects_of([1.0, 1.2] * 10), guards, alpha=0.05, rules=RULES, seed=1)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.why == ["too-few:rare"]


def test_a_win_that_vanishes_under_a_perturbed_device_does_not_pass():
    effects = effects_of([0.5, 0.6] * 10, conditions={"crude": -0.01, "device-0": 0.4}, estimated=True)
    verdict = holdout_race(effects, {}, alpha=0.05, rules=RULES, seed=1)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.why == ["condition:crude"]
    steady = [effect.model_copy(update={"conditions": {"crude": 0.3, "device-0": 0.4}}) for effect in effects]
    assert holdout_race(steady, {}, alpha=0.05, rules=RULES, seed=1).outcome is Outcome.PASSED


def test_a_candidate_that_is_clearly_worse_fails():
    assert holdout_race(effects_of([-0.5, -0.6] * 10), {}, alpha=0.05, rules=RULES, seed=1).outcome is Outcome.FAILED
    assert target_race(effects_of([-0.5, -0.6] * 10), seed=1).outcome is Outcome.FAILED


def test_the_screen_wants_a_better_mean_and_nothing_else():
    assert target_race(effects_of([0.9, -0.5, 0.1]), seed=1).outcome is Outcome.PASSED
    assert target_race(effects_of([0.5, -0.5]), seed=1).outcome is Outcome.INCONCLUSIVE
    assert target_race([], seed=1).outcome is Outcome.INCONCLUSIVE


def test_one_cheat_fails_a_candidate_however_good_it_is():
    effects = effects_of([1.0] * 10)
    clean = adversarial_race(effects, cheats=[], margin=MARGIN, rules=RULES, seed=1)
    caught = adversarial_race(effects, cheats=["below-floor"], margin=MARGIN, rules=RULES, seed=1)
    assert (clean.outcome, caught.outcome) == (Outcome.PASSED, Outcome.FAILED)


def test_inferior_under_perturbation_fails_the_adversarial_race():
    effects = effects_of([1.0, 1.1] * 5, conditions={"crude": -1.0})
    assert adversarial_race(effects, cheats=[], margin=MARGIN, rules=RULES, seed=1).outcome is Outcome.FAILED


def trajectory(item: str, seed: int, value: float, valid: bool = True, **details: object) -> Trajectory:
    grade = Grade(value=value, valid=valid, details=dict(details))
    return Trajectory(version="v", item=item, seed=seed, stop=RolloutStop.ANSWERED, grade=grade)


def test_effects_are_paired_by_item_and_seed_and_averaged_by_item():
    items = [Item(id=name, task="t", split=Split.OPTIMISE, slice="s", payload={}) for name in "xy"]
    candidate = [trajectory("x", 1, 1.0), trajectory("x", 2, 3.0), trajectory("y", 1, 5.0), trajectory("z", 1, 9.0)]
    live = [trajectory("x", 2, 1.0), trajectory("x", 1, 1.0), trajectory("y", 7, 0.0), trajectory("z", 1, 0.0)]
    effects = paired_effects(items, candidate, live, METRIC)
    assert [(effect.item, effect.value) for effect in effects] == [("x", 1.0)]


def test_less_is_better_where_the_metric_says_so():
    metric = METRIC.model_copy(update={"direction": Direction.MINIMISE})
    items = [Item(id="x", task="t", split=Split.OPTIMISE, slice="s", payload={})]
    effects = paired_effects(items, [trajectory("x", 1, 2.0)], [trajectory("x", 1, 3.0)], metric)
    assert effects[0].value == 1.0


def test_a_rejected_output_is_as_bad_under_every_condition():
    items = [Item(id="x", task="t", split=Split.OPTIMISE, slice="s", payload={})]
    good = trajectory("x", 1, 0.5, conditions={"crude": 0.3})
    rejected = trajectory("x", 1, -2.0, valid=False)
    (effect,) = paired_effects(items, [good], [rejected], METRIC)
    assert effect.value == 2.5
    assert effect.conditions == {"crude": 2.3}
