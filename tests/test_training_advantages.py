"""Advantages: what they are by formula, and what they must not depend on."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawl.core import ConfigurationError
from pawl.training import Entropic, Objective, Scale, advantages, entropic, group_relative
from pawl.training.advantages import solve_beta, tilt_kl

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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("objective", list(Objective))
def test_rewards_that_are_not_finite_are_refused(bad: float, objective: Objective) -> None:
    with pytest.raises(ConfigurationError, match="expected finite numbers"):
        advantages({"g": [0.0, 1.0, bad, 2.0]}, objective)
