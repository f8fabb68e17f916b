"""Advantages: what they are by formula, and what they must not depend on."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawl.core import ConfigurationError
from pawl.training import (
    PPO,
    PRESETS,
    Aggregation,
    Baseline,
    BestOfN,
    Entropic,
    GroupRelative,
    Objective,
    Overlong,
    Reinforce,
    Scale,
    advantages_of,
    entropic,
    group_relative,
)
from pawl.training.advantages import (
    gae,
    leave_one_out,
    overlong_penalty,
    reinforce,
    solve_beta,
    tilt_kl,
    whiten,
)

rewards = st.lists(st.integers(-4000, 4000).map(lambda n: n / 1000), min_size=1, max_size=24)
groups = st.lists(st.integers(-4000, 4000).map(lambda n: n / 1000), min_size=4, max_size=24)


def reference(values: list[float]) -> np.ndarray:
    """The entropic advantages by brute force: beta on a fine grid, float64."""
    settings = Entropic()
    r = np.asarray(values, dtype=np.float64)
    gap = np.where(r.max() - r <= settings.resolution, 0.0, r - r.max())
    winners = int((gap == 0).sum())
    delta = min(settings.kl, 0.9 * math.log(len(r) / winners))
    betas = np.geomspace(1e-4, settings.beta_max, 200_001)
    lo, hi = 0, len(betas) - 1  # the KL grows with beta
    while lo < hi:
        middle = (lo + hi) // 2
        q = np.exp(betas[middle] * gap)
        q /= q.sum()
        kl = float((q[q > 0] * np.log(q[q > 0] * len(r))).sum())
        lo, hi = (middle + 1, hi) if kl < delta else (lo, middle)
    e = np.exp(betas[lo] * gap)
    return np.minimum(settings.clip, e / ((e.sum() - e) / (len(r) - 1)) - 1)


@given(groups)
@settings(deadline=None, max_examples=60)
def test_entropic_advantages_equal_a_float64_reference(values: list[float]) -> None:
    if max(values) - min(values) <= Entropic().resolution:
        assert entropic(values) == [0.0] * len(values)
        return
    assert entropic(values) == pytest.approx(reference(values).tolist(), rel=2e-3, abs=2e-3)


@given(groups, st.integers(-50, 50))
@settings(deadline=None)
def test_a_shift_of_all_rewards_changes_nothing(values: list[float], shift: int) -> None:
    shifted = [value + shift / 4 for value in values]
    assert entropic(shifted) == pytest.approx(entropic(values), rel=1e-6, abs=1e-6)
    assert group_relative(shifted) == pytest.approx(group_relative(values), rel=1e-6, abs=1e-6)


@given(groups, st.floats(0.5, 4.0))
@settings(deadline=None)
def test_a_change_of_unit_changes_nothing_when_the_guards_change_with_it(values: list[float], unit: float) -> None:
    guards = Entropic(resolution=0.0005)  # half of the grid that the rewards are drawn on, so no tie flips
    scaled = Entropic(resolution=guards.resolution * unit, beta_max=guards.beta_max / unit)
    assert entropic([value * unit for value in values], scaled) == pytest.approx(
        entropic(values, guards), rel=1e-5, abs=1e-5
    )
    assert group_relative([value * unit for value in values]) == pytest.approx(group_relative(values), abs=1e-6)


@given(groups, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_advantages_follow_their_rewards_through_any_order(values: list[float], random: object) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = [values[index] for index in order]
    for function in (entropic, group_relative):
        before = function(values)
        assert function(shuffled) == pytest.approx([before[index] for index in order], rel=1e-6, abs=1e-6)


@given(groups)
@settings(deadline=None)
def test_equal_rewards_get_equal_advantages_and_better_ones_never_less(values: list[float]) -> None:
    for function in (entropic, group_relative):
        pairs = sorted(zip(values, function(values), strict=True))
        for (r1, a1), (r2, a2) in pairwise(pairs):
            assert a1 <= a2 + 1e-12
            if r1 == r2:
                assert a1 == a2


@given(rewards)
@settings(deadline=None)
def test_group_relative_is_centred_with_unit_variance_or_silent(values: list[float]) -> None:
    result = np.asarray(group_relative(values))
    if max(values) == min(values):
        assert not result.any()
    else:
        assert result.mean() == pytest.approx(0, abs=1e-9)
        assert result.std() == pytest.approx(1)
    assert group_relative(values, Scale.NONE) == pytest.approx(
        [v - sum(values) / len(values) for v in values], abs=1e-6
    )


def test_noise_below_the_resolution_gives_no_gradient() -> None:
    assert entropic([0.5, 0.5 + 1e-5, 0.5 - 1e-5, 0.5]) == [0.0] * 4


def test_a_small_group_falls_back_to_the_mean_baseline() -> None:
    assert entropic([0.0, 1.0]) == group_relative([0.0, 1.0]) == [-1.0, 1.0]
    assert entropic([3.0]) == [0.0]


def test_tied_winners_keep_beta_finite() -> None:
    values = [0.0] * 4 + [1.0] * 4
    result = entropic(values)
    assert max(result) < 1.4
    assert min(result) >= -1.0
    assert tilt_kl([-1.0] * 4 + [0.0] * 4, solve_beta([-1.0] * 4 + [0.0] * 4, 0.5, 1e3)) == pytest.approx(0.5)


def test_a_lone_outlier_is_clipped() -> None:
    assert max(entropic([0.0] * 63 + [1.0])) == Entropic().clip


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e308])
@pytest.mark.parametrize("objective", list(Objective))
def test_rewards_that_are_not_finite_are_refused(bad: float, objective: Objective) -> None:
    with pytest.raises(ConfigurationError, match="expected finite numbers"):
        advantages_of({"g": [0.0, 1.0, bad, 2.0]}, objective)


UNGROUPED = (
    group_relative,
    leave_one_out,
    reinforce,
    lambda values: group_relative(values, Scale.NONE, 0.0, Baseline.LEAVE_ONE_OUT),
    lambda values: reinforce(values, whiten=False),
)
"""Functions of rewards that no guard tilts."""


@given(groups)
@settings(deadline=None)
def test_every_method_equals_its_formula_in_float64(values: list[float]) -> None:
    r = np.asarray(values, dtype=np.float64)
    k = len(r)
    others = np.array([np.delete(r, i).mean() for i in range(k)])
    assert leave_one_out(values) == pytest.approx((r - others).tolist(), abs=1e-9)
    if np.ptp(r) <= 1e-6:
        assert group_relative(values) == reinforce(values) == [0.0] * k
        return
    grpo = (r - r.mean()) / r.std()
    assert group_relative(values) == pytest.approx(grpo.tolist(), abs=1e-9)
    assert group_relative(values, Scale.NONE) == pytest.approx((r - r.mean()).tolist(), abs=1e-9)
    rloo = group_relative(values, Scale.NONE, baseline=Baseline.LEAVE_ONE_OUT)
    assert rloo == pytest.approx((r - others).tolist(), abs=1e-9)
    assert reinforce(values) == pytest.approx(grpo.tolist(), abs=1e-9)
    assert reinforce(values, whiten=False) == pytest.approx((r - r.mean()).tolist(), abs=1e-9)


@given(groups, st.integers(-50, 50), st.floats(0.5, 4.0), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_baselines_ignore_a_shift_and_follow_any_order_and_unit(
    values: list[float], shift: int, unit: float, random: object
) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for function in UNGROUPED:
        plain = function(values)
        assert function([value + shift / 4 for value in values]) == pytest.approx(plain, abs=1e-6)
        assert function([values[place] for place in order]) == pytest.approx([plain[i] for i in order], abs=1e-6)
        scaled = function([value * unit for value in values])
        free = np.std(plain) == pytest.approx(1)  # whitened: without a unit
        expected = plain if free and function in (group_relative, reinforce) else [value * unit for value in plain]
        assert scaled == pytest.approx(expected, abs=1e-6)
        for (r1, a1), (r2, a2) in pairwise(sorted(zip(values, plain, strict=True))):
            assert a1 <= a2 + 1e-12
            assert r1 != r2 or a1 == a2


episodes = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(-300, 300).map(lambda v: v / 100), min_size=n, max_size=n)] * 2)
)


def direct(rewards: list[float], values: list[float], gamma: float, lam: float) -> np.ndarray:
    """Equation 16 of the paper as it stands: a sum over what is left, for each decision anew."""
    r, v = np.asarray(rewards, dtype=np.float64), np.asarray([*values, 0.0], dtype=np.float64)
    deltas = r + gamma * v[1:] - v[:-1]
    return np.array([sum((gamma * lam) ** k * deltas[t + k] for k in range(len(r) - t)) for t in range(len(r))])


@given(episodes, st.floats(0.1, 1.0), st.floats(0.0, 1.0))
@settings(deadline=None)
def test_generalised_advantages_equal_the_sum_that_defines_them(
    episode: tuple[list[float], list[float]], gamma: float, lam: float
) -> None:
    rewards, values = episode
    found = gae(rewards, values, gamma, lam)
    assert found.advantages == pytest.approx(direct(rewards, values, gamma, lam).tolist(), abs=1e-9)
    assert found.returns == pytest.approx([a + v for a, v in zip(found.advantages, values, strict=True)])
    monte_carlo = [sum(gamma**k * r for k, r in enumerate(rewards[t:])) for t in range(len(rewards))]
    assert gae(rewards, values, gamma, 1.0).returns == pytest.approx(monte_carlo, abs=1e-9)
    errors = [r + gamma * n - v for r, v, n in zip(rewards, values, [*values[1:], 0.0], strict=True)]
    assert gae(rewards, values, gamma, 0.0).advantages == pytest.approx(errors, abs=1e-9)
    twice = gae([2 * r for r in rewards], [2 * v for v in values], gamma, lam)
    assert twice.advantages == pytest.approx([2 * a for a in found.advantages], abs=1e-9)


def test_values_that_tell_the_return_leave_no_advantage() -> None:
    assert gae([0.1, 0.2, 0.4], [0.7, 0.6, 0.4]).advantages == pytest.approx([0.0] * 3)


@given(groups)
@settings(deadline=None)
def test_whitened_advantages_have_mean_0_and_deviation_1_by_their_weights(values: list[float]) -> None:
    weights = [1.0 + place % 3 for place in range(len(values))]
    result = np.asarray(whiten(values, weights))
    if max(values) == min(values):
        assert not result.any()
        return
    assert np.average(result, weights=weights) == pytest.approx(0, abs=1e-9)
    assert np.average(result**2, weights=weights) == pytest.approx(1)
    assert whiten(values) == pytest.approx(((np.asarray(values) - np.mean(values)) / np.std(values)).tolist(), abs=1e-9)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="values are nan"):
        gae([0.0], [math.nan])
    with pytest.raises(ConfigurationError, match="one of each a decision"):
        gae([0.0], [0.0, 1.0])


def published(values: list[float]) -> np.ndarray:
    """The entropic estimator as it was published, without a guard."""
    r = np.asarray(values, dtype=np.float64)
    k = len(r)

    def kl(beta: float) -> float:
        q = np.exp(beta * (r - r.max()))
        q /= q.sum()
        return float((q[q > 0] * np.log(q[q > 0] * k)).sum())

    low, high = 0.0, 1.0
    while kl(high) < math.log(2) and high < 1e6:
        low, high = high, min(2 * high, 1e6)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kl(middle) < math.log(2) else (low, middle)
    e = np.exp(high * (r - r.max()))
    return e / ((e.sum() - e) / (k - 1) + 1e-12) - 1


@pytest.mark.parametrize(
    ("values", "unguarded", "guarded"),
    [
        ([0.0, 1.0], 1e9, 1.0),  # two rewards: beta runs away
        ([0.0, 0.0, 1.0], 16.3, math.sqrt(2)),
        ([0.0] * 7 + [1.0], 10.8, 10.0),
        ([0.0] * 4 + [1.0] * 4, 1.33, 1.29),
        ([0.5] * 7 + [0.5 + 1e-5], 10.8, 0.0),  # noise, at full size
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 10.0], 10.8, 10.0),
        ([1.0] * 8, 0.0, 0.0),
        ([0.0] * 63 + [1.0], 27.8, 10.0),
    ],
)
def test_the_guards_hold_where_the_published_estimator_goes_wrong(
    values: list[float], unguarded: float, guarded: float
) -> None:
    largest = float(published(values).max())
    assert largest > unguarded if unguarded == 1e9 else largest == pytest.approx(unguarded, rel=0.01, abs=1e-9)
    assert max(entropic(values)) == pytest.approx(guarded, rel=0.01)


def test_one_function_serves_every_objective_that_needs_rewards_alone() -> None:
    rewards = {"a": [0.0, 1.0, 2.0, 5.0], "b": [1.0, 1.0, 1.0, 4.0]}
    assert advantages_of(rewards, Objective.ENTROPIC) == {name: entropic(each) for name, each in rewards.items()}
    both = reinforce([*rewards["a"], *rewards["b"]])
    assert advantages_of(rewards, Reinforce()) == {"a": both[:4], "b": both[4:]}
    assert advantages_of(rewards, PRESETS["rloo"])["a"] == pytest.approx(leave_one_out(rewards["a"]))
    for objective in (PPO(), BestOfN()):
        with pytest.raises(ConfigurationError, match="no advantages of rewards alone"):
            advantages_of(rewards, objective)


def test_the_presets_are_the_methods_that_they_are_named_for() -> None:
    assert PRESETS["dr_grpo"].scale is Scale.NONE
    assert PRESETS["dr_grpo"].loss.aggregation is Aggregation.CONSTANT
    assert PRESETS["grpo"].loss.aggregation is Aggregation.SEQUENCE
    dapo = PRESETS["dapo"].loss
    assert (dapo.clip_low, dapo.clip_high, dapo.aggregation, dapo.kl) == (0.2, 0.28, Aggregation.TOKEN, 0.0)
    assert all(isinstance(each, GroupRelative) for each in PRESETS.values())


def test_long_answers_pay_in_a_line_from_the_margin_to_the_longest() -> None:
    settings = Overlong(longest=100, margin=20, weight=0.5)
    paid = [overlong_penalty(length, settings) for length in (0, 80, 90, 100, 500)]
    assert paid == pytest.approx([0.0, 0.0, -0.25, -0.5, -0.5])
