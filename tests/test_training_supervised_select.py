"""What is kept and what is paired follows from the order of the rewards alone."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pawl.core import ConfigurationError
from pawl.training import BestOfN, Preference
from pawl.training.supervised.select import Pair, best, best_datums, pair_datums, ranked_pairs

from .training_fixtures import make_datum

REWARDS = st.lists(st.integers(-20, 20).map(float), max_size=9)
EXACT = Preference(pairs=10**6, resolution=0.0)


def test_the_best_are_kept_best_first() -> None:
    assert best([0.1, 0.9, 0.4, 0.9], BestOfN(keep=3)) == [1, 3, 2]
    assert best([0.1, 0.9, 0.4, 0.9]) == [1]
    assert best([0.1, 0.9, 0.4], BestOfN(keep=3, threshold=0.4)) == [1, 2]


def test_a_group_that_says_nothing_gives_nothing() -> None:
    for rewards in ([], [3.0], [2.0, 2.0, 2.0]):
        assert best(rewards) == []
        assert ranked_pairs(rewards) == []
    assert best([3.0], BestOfN(threshold=2.0)) == [0]  # a threshold needs no rival
    assert ranked_pairs([1.0, 1.0 + 1e-9]) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_rewards_that_are_no_numbers_are_refused(bad: float) -> None:
    for choose in (best, ranked_pairs):
        with pytest.raises(ConfigurationError, match="Reward 1"):
            choose([0.0, bad])


@given(REWARDS, st.integers(1, 5))
def test_nothing_left_out_is_better_than_what_is_kept(rewards: list[float], keep: int) -> None:
    kept = best(rewards, BestOfN(keep=keep))
    assert len(kept) == min(keep, sum(reward > min(rewards) for reward in rewards))
    left = [reward for place, reward in enumerate(rewards) if place not in kept]
    assert all(rewards[place] >= other for place in kept for other in left)


@given(REWARDS, st.integers(1, 40), st.floats(0, 5))
def test_a_pair_is_apart_by_more_than_the_resolution(rewards: list[float], most: int, resolution: float) -> None:
    pairs = ranked_pairs(rewards, Preference(pairs=most, resolution=resolution))
    every = [(a, b) for a in rewards for b in rewards if a - b > resolution]
    assert len(pairs) == len(set(pairs)) == min(most, len(every))
    assert all(rewards[pair.better] - rewards[pair.worse] > resolution for pair in pairs)


@given(REWARDS)
def test_the_widest_apart_in_rank_come_first(rewards: list[float]) -> None:
    def rank(place: int) -> int:
        return sum(rewards[place] > r for r in rewards) - sum(rewards[place] < r for r in rewards)

    widths = [rank(pair.better) - rank(pair.worse) for pair in ranked_pairs(rewards, EXACT)]
    assert widths == sorted(widths, reverse=True)
    assert all(width > 0 for width in widths)
    if widths:
        first = ranked_pairs(rewards, EXACT)[0]
        assert (rewards[first.better], rewards[first.worse]) == (max(rewards), min(rewards))


@given(REWARDS, st.integers(-50, 50), st.integers(1, 9))
def test_shift_and_scale_change_nothing(rewards: list[float], shift: int, scale: int) -> None:
    moved = [scale * reward + shift for reward in rewards]
    assert best(moved, BestOfN(keep=3)) == best(rewards, BestOfN(keep=3))
    assert ranked_pairs(moved, EXACT) == ranked_pairs(rewards, EXACT)
    cubes = [reward**3 for reward in rewards]  # any increasing map: only ranks count
    assert ranked_pairs(cubes, EXACT) == ranked_pairs(rewards, EXACT)


@given(REWARDS, st.integers(1, 6), st.integers(0, 10**6))
def test_the_order_of_the_rollouts_changes_only_which_of_equal_ones(rewards: list[float], most: int, seed: int) -> None:
    order = Random(seed).sample(range(len(rewards)), len(rewards))
    shuffled = [rewards[place] for place in order]
    kept = [rewards[place] for place in best(rewards, BestOfN(keep=most))]
    assert [shuffled[place] for place in best(shuffled, BestOfN(keep=most))] == kept
    settings = Preference(pairs=most, resolution=0.0)

    def values(of: list[float]) -> list[tuple[float, float]]:
        return [(of[pair.better], of[pair.worse]) for pair in ranked_pairs(of, settings)]

    assert values(shuffled) == values(rewards)


def test_a_rollout_without_datums_is_passed_over_but_still_counts() -> None:
    only = [[make_datum([1, 2, 3], [2], group="item")], [], [make_datum([1, 2, 4], [2], group="item")]]
    assert [datum.tokens for datum in best_datums([0.2, 0.9, 0.1], only)] == [[1, 2, 3]]
    assert ranked_pairs([0.2, 0.9, 0.1], EXACT, usable=[0, 2]) == [Pair(0, 2)]
    with pytest.raises(ConfigurationError, match="2 rewards for 3 rollouts"):
        best_datums([0.2, 0.9], only)


def test_a_pair_is_told_by_its_group_and_the_sign_of_its_advantages() -> None:
    rollouts = [[make_datum([1, 2, 3 + k], [2], advantage=0.0, group="item")] for k in range(3)]
    datums = pair_datums([0.0, 2.0, 1.0], rollouts, Preference(pairs=2))
    told = [(datum.group_id, datum.tokens[-1], datum.advantages) for datum in datums]
    assert told == [
        ("item#1>0", 4, [0.0, 0.0, 1.0]),
        ("item#1>0", 3, [0.0, 0.0, -1.0]),
        ("item#1>2", 4, [0.0, 0.0, 1.0]),
        ("item#1>2", 5, [0.0, 0.0, -1.0]),
    ]
    assert [d.advantages[2] for d in best_datums([0.0, 2.0, 1.0], rollouts, BestOfN(keep=2))] == [1.0, 1.0]
