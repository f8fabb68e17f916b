"""Measurements are what their definitions say."""

import itertools
import math
import random
from statistics import fmean

import pytest

from pawl.core import Trajectory
from pawl.evals.scaffold import Mode, ScaffoldConfig
from pawl.nodes.measurements import measure

from .feedback_fixtures import METRIC, dense, evidence, refused_at_limits, rollouts, trajectory


def values(*groups: list[float]) -> list[Trajectory]:
    return [
        trajectory(f"i{index}", index * 100 + n, value=value)
        for index, group in enumerate(groups)
        for n, value in enumerate(group)
    ]


def test_doubling_gain_is_the_expected_best_of_two_less_the_mean() -> None:
    group = [0.1, 0.5, 0.9, 1.7, -0.4]
    expected = fmean(max(pair) for pair in itertools.combinations(group, 2)) - fmean(group)
    assert measure(evidence(values(group))).doubling_gain == pytest.approx(expected)


def test_spread_between_items_is_no_spread_within() -> None:
    measured = measure(evidence(values([0.1, 0.1, 0.1], [2.0, 2.0, 2.0])))
    assert measured.within_sd == pytest.approx(0.0, abs=1e-12)
    assert measured.sparsity == 1.0
    assert measured.sd > 0.9


def test_entropy_of_a_uniform_choice_is_one_and_of_a_sure_one_zero() -> None:
    assert measure(evidence(rollouts(dense, entropy=1.0))).entropy == pytest.approx(1.0)
    assert measure(evidence(rollouts(dense, entropy=0.0))).entropy == 0.0


def test_failures_that_pruning_explains_do_not_count_into_the_spread_for_training() -> None:
    measured = measure(evidence(rollouts(refused_at_limits, seed=1)))
    assert measured.explained
    assert measured.within_sd < 0.5 < measured.sd


def test_the_slope_has_the_sign_of_likelihood_and_reward() -> None:
    def logprob(sign: float) -> float:
        made = rollouts(dense, logprob=lambda choices, rng: sign * (dense(choices, rng) or 0) - 5)
        return measure(evidence(made)).slope

    assert logprob(1.0) > 0 > logprob(-1.0)


def test_the_slope_is_the_derivative_by_inverse_temperature() -> None:
    rng = random.Random(0)
    reward = {"a": 0.0, "b": 0.3, "c": 1.0}
    base = {"a": 0.2, "b": 0.3, "c": 0.5}

    def mean_at(beta: float) -> float:
        weights = {one: p**beta for one, p in base.items()}
        return sum(reward[one] * w for one, w in weights.items()) / sum(weights.values())

    made: list[Trajectory] = []
    for n in range(1000):
        one = rng.choices(sorted(base), weights=[base[key] for key in sorted(base)])[0]
        made.append(trajectory("i", n, value=reward[one], choices={"f": one}, logprob=math.log(base[one])))
    measured = measure(evidence(made))
    exact = (mean_at(1.001) - mean_at(0.999)) / 0.002
    assert abs(measured.slope - exact) < 4 * measured.slope_error


def test_the_slope_is_not_taken_from_best_of_several() -> None:
    made = rollouts(dense, logprob=lambda choices, rng: dense(choices, rng) or 0)
    assert measure(evidence(made, scaffold=ScaffoldConfig(mode=Mode.SCHEDULE, samples=2))).slope == 0.0


def test_a_grade_that_is_missing_or_not_finite_counts_as_the_worst() -> None:
    broken = trajectory("i", 1, value=math.nan)
    missing = broken.model_copy(update={"grade": None})
    for one in (broken, missing):
        assert evidence([one]).reward(one) == METRIC.worst


def test_an_empty_round_measures_zero() -> None:
    measured = measure(evidence([]))
    assert (measured.rollouts, measured.within_sd, measured.entropy) == (0, 0.0, None)
