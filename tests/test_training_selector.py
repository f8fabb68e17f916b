"""The rule that chooses an objective: every boundary, every objective, and nothing that the data can't feed."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from pawl.training import Baseline, BestOfN, Entropic, GroupRelative, Objective, Preference, Reinforce, Scale
from pawl.training.advantages import advantages_of
from pawl.training.objectives import PPO, LossSettings, loss_of
from pawl.training.selector import Attempt, Selection, Thresholds, observe, options, select, settings, unfed
from pawl.training.supervised.select import best, ranked_pairs

GRID = 16
"""Rewards of drawn rollouts are sixteenths, exact in binary, so that a change of unit moves no tie."""


def groups(*rewards: list[float], **changes: Any) -> list[Attempt]:
    """One group a list."""
    return [
        Attempt(group=f"g{place}", reward=reward, **changes) for place, group in enumerate(rewards) for reward in group
    ]


def chosen(attempts: list[Attempt], **known: Any) -> Any:
    return select(observe(attempts, **known)).objective


EVEN = [0.0, 0.25, 0.75, 1.0]
"""Differing, symmetric about the mean: skewness 0, and no ranks."""
RARE = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


# --- every objective has data that ask for it


def test_groups_of_several_with_one_reward_at_the_end_are_group_relative() -> None:
    assert chosen(groups(*[EVEN] * 8)) == GroupRelative(resolution=1e-3)


@pytest.mark.parametrize(("size", "baseline", "scale"), [(2, "leave_one_out", "none"), (3, "leave_one_out", "none")])
def test_groups_of_two_or_three_take_the_mean_of_the_others(size: int, baseline: str, scale: str) -> None:
    found = chosen(groups(*[[0.0, 1.0, 0.3][:size]] * 20))
    assert (found.kind, found.baseline, found.scale) == (Objective.GROUP_RELATIVE, Baseline(baseline), Scale(scale))


def test_groups_of_four_take_their_mean_and_deviation() -> None:
    found = chosen(groups(*[EVEN] * 8))
    assert (found.baseline, found.scale) == (Baseline.MEAN, Scale.STD)


def test_rewards_skewed_to_the_right_are_entropic() -> None:
    found = chosen(groups(*[RARE] * 4))
    assert found == Entropic(resolution=1e-3, beta_max=1e3)


def test_dense_rewards_with_steps_enough_for_a_value_head_are_for_ppo() -> None:
    found = chosen(groups(*[EVEN] * 25, steps=10, step_rewards=[0.1] * 9 + [0.2]))
    assert found == PPO(value_clip=0.2)


def test_dense_rewards_where_capabilities_may_regress_are_for_reinforce_with_kl() -> None:
    dense = groups(*[EVEN] * 25, steps=10, step_rewards=[0.1] * 9 + [0.2])
    assert chosen(dense, at_risk=True) == Reinforce(loss=LossSettings(kl=0.05))


def test_rollouts_without_groups_are_for_reinforce() -> None:
    assert isinstance(chosen(groups(*[[n / 7] for n in range(40)])), Reinforce)


def test_a_cold_start_imitates_what_succeeded_and_nothing_else() -> None:
    cold = groups(*[[0.0] * 8] * 9, [0.0] * 6 + [0.5, 1.0])
    assert chosen(cold, floor=0.0) == BestOfN(keep=2, threshold=0.5)
    assert best([0.0, 0.0, 0.0], BestOfN(keep=2, threshold=0.5)) == []


def test_few_rollouts_are_imitated() -> None:
    assert chosen(groups(*[EVEN] * 3)) == BestOfN()


def test_a_metric_that_only_ranks_is_for_preference() -> None:
    assert chosen(groups(*[EVEN] * 8), ordinal=True) == Preference(resolution=1e-3)


def test_ranks_are_known_by_their_look() -> None:
    ranks = [[0.0, 2.0, 1.0, 3.0], [3.0, 2.0, 1.0, 0.0], [1.0, 3.0, 0.0, 2.0]] * 3
    assert isinstance(chosen(groups(*ranks)), Preference)
    scores = [*ranks[:-1], [1.0, 1.0, 0.0, 2.0]]
    assert not isinstance(chosen(groups(*scores)), Preference)
    uneven = [[0.0, 2.0, 1.5, 3.0]] * 9
    assert not isinstance(chosen(groups(*uneven)), Preference)


def test_two_levels_are_scores_and_not_ranks() -> None:
    assert not isinstance(chosen(groups(*[[0.0, 1.0]] * 16)), Preference)


def test_without_log_probabilities_the_best_are_imitated() -> None:
    assert chosen(groups(*[EVEN] * 8, logprobs=False)) == BestOfN()


# --- boundaries: the last value on one side, the first on the other


@pytest.mark.parametrize(("rewarded", "kind"), [(4, Objective.GROUP_RELATIVE), (5, Objective.PPO)])
def test_rewards_are_dense_from_half_of_the_steps_on(rewarded: int, kind: Objective) -> None:
    made = groups(*[EVEN] * 25, steps=10, step_rewards=[0.0] * (10 - rewarded) + [0.1] * rewarded)
    assert chosen(made).kind is kind


@pytest.mark.parametrize(("cost", "kind"), [(19.99, Objective.GROUP_RELATIVE), (20.0, Objective.PPO)])
def test_a_dear_rollout_makes_a_tenth_of_the_steps_dense(cost: float, kind: Objective) -> None:
    made = groups(*[EVEN] * 25, steps=10, step_rewards=[0.0] * 9 + [0.1], cost=cost)
    assert chosen(made).kind is kind


@pytest.mark.parametrize(("steps", "kind"), [(9, Objective.REINFORCE), (10, Objective.PPO)])
def test_a_value_head_wants_a_thousand_steps(steps: int, kind: Objective) -> None:
    assert chosen(groups(*[EVEN] * 25, steps=steps, step_rewards=[0.1, 0.2] * 4)).kind is kind


@pytest.mark.parametrize(("failures", "kind"), [(95, Objective.ENTROPIC), (96, Objective.BEST_OF_N)])
def test_below_one_success_in_twenty_the_start_is_cold(failures: int, kind: Objective) -> None:
    assert chosen(groups([0.0] * failures + [1.0] * 5)).kind is kind


@pytest.mark.parametrize(("sizes", "kind"), [([5, 5, 5, 4], Objective.BEST_OF_N), ([5] * 4, Objective.GROUP_RELATIVE)])
def test_twenty_rollouts_are_no_longer_few(sizes: list[int], kind: Objective) -> None:
    assert chosen(groups(*[[0.0, 1.0, 0.5, 0.6, 0.4][:size] for size in sizes])).kind is kind


@pytest.mark.parametrize(("wins", "kind"), [(27, Objective.ENTROPIC), (28, Objective.GROUP_RELATIVE)])
def test_two_valued_rewards_are_skewed_up_to_28_percent_of_successes(wins: int, kind: Objective) -> None:
    """The skewness of a share p is (1 - 2p) / sqrt(p (1 - p)), which is 1 at p = 0.2764."""
    p = wins / 100
    assert ((1 - 2 * p) / math.sqrt(p * (1 - p)) >= 1) == (kind is Objective.ENTROPIC)
    assert chosen(groups([0.0] * (100 - wins) + [1.0] * wins)).kind is kind


@pytest.mark.parametrize(("size", "kind"), [(3, Objective.GROUP_RELATIVE), (4, Objective.ENTROPIC)])
def test_the_entropic_objective_wants_groups_of_four(size: int, kind: Objective) -> None:
    made = groups(*[[0.0] * size] * 8, *[[0.0] * (size - 1) + [1.0]] * 4)
    signals = observe(made)
    assert signals.skewness >= 1
    assert select(signals).objective is not None
    assert chosen(made).kind is kind


@pytest.mark.parametrize(("with_them", "kind"), [(15, Objective.BEST_OF_N), (16, Objective.GROUP_RELATIVE)])
def test_half_of_the_rollouts_must_carry_log_probabilities(with_them: int, kind: Objective) -> None:
    made = groups(*[EVEN] * 8)
    assert chosen([replace(one, logprobs=place < with_them) for place, one in enumerate(made)]).kind is kind


@pytest.mark.parametrize("gap", [1 / 1024, 2 / 1024])
def test_rewards_within_the_resolution_are_ties(gap: float) -> None:
    found = chosen(groups(*[[0.5, 0.5 + gap]] * 16), floor=0.0, resolution=1 / 1024)
    assert (found is not None) == (gap > 1 / 1024)


@pytest.mark.parametrize("at_risk", [False, True])
@pytest.mark.parametrize("made", [groups(*[EVEN] * 8), groups(*[RARE] * 4)])
def test_policy_gradients_pay_for_leaving_the_base_where_capabilities_may_regress(
    made: list[Attempt], at_risk: bool
) -> None:
    assert loss_of(chosen(made, at_risk=at_risk)).kl == (0.05 if at_risk else 0.0)


def test_thresholds_can_be_argued_with() -> None:
    signals = observe(groups(*[RARE] * 4))
    found = select(signals, Thresholds(skew=3.0)).objective
    assert isinstance(found, GroupRelative)


# --- where nothing can be learned


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ([], "no rollouts"),
        (groups([math.nan, math.inf]), "no rollouts"),
        (groups(*[[0.5] * 4] * 8), "rewards don't differ"),
        (groups(*[[0.0] * 4, [1.0] * 4] * 4), "the items"),
        (groups(*[EVEN] * 8, recorded=False), "no tokens"),
    ],
)
def test_no_objective_is_chosen_where_nothing_can_be_learned(made: list[Attempt], why: str) -> None:
    found = select(observe(made))
    assert found.objective is None
    assert why in found.reason


def test_ranks_of_lone_rollouts_teach_nothing() -> None:
    assert chosen(groups(*[[float(n)] for n in range(30)]), ordinal=True) is None


def test_rewards_that_are_not_finite_are_left_out_and_said() -> None:
    found = select(observe(groups(*[[*EVEN, math.nan]] * 8)))
    assert found.objective == GroupRelative(resolution=1e-3)
    assert "8 left out without a finite reward" in found.reason


def test_what_would_have_fitted_is_said_where_the_data_lack_something() -> None:
    made = groups(*[[0.0, 0.0, 0.0]] * 8, *[[0.0, 0.0, 1.0]] * 4)
    found = select(observe(made))
    assert found.objective is not None
    assert "Entropic would fit, but no group of 4 or more differs" in found.reason


def test_a_reason_has_its_figures() -> None:
    reason = select(observe(groups(*[RARE] * 4, cost=1.5))).reason
    for figure in ("skewness 2.27", "32 rollouts in 4 groups of 8", "4 of which differ", "12% successes", "1.5 units"):
        assert figure in reason


# --- properties over drawn rollouts


@st.composite
def rollouts(draw: st.DrawFn) -> list[Attempt]:
    made: list[Attempt] = []
    for place in range(draw(st.integers(1, 8))):
        steps = draw(st.integers(1, 40))
        for _ in range(draw(st.integers(1, 9))):
            own = draw(st.lists(st.integers(-GRID, GRID), max_size=steps))
            made.append(
                Attempt(
                    group=f"g{place}",
                    reward=draw(st.one_of(st.integers(0, 2 * GRID), st.sampled_from([0, 0, 0, GRID]))) / GRID,
                    steps=steps,
                    step_rewards=tuple(value / GRID for value in own),
                    recorded=draw(st.integers(0, 9)) > 0,
                    logprobs=draw(st.integers(0, 9)) > 1,
                    cost=draw(st.sampled_from([0.1, 19.0, 21.0])),
                )
            )
    return made


known = st.fixed_dictionaries({"ordinal": st.booleans(), "at_risk": st.booleans(), "floor": st.sampled_from([None, 0])})


@given(rollouts(), known, st.randoms(use_true_random=False))
@hypothesis(deadline=None, max_examples=50)
def test_the_order_of_rollouts_does_not_matter(
    made: list[Attempt], context: dict[str, Any], rng: random.Random
) -> None:
    shuffled = list(made)
    rng.shuffle(shuffled)
    assert select(observe(shuffled, **context)) == select(observe(made, **context))


@given(rollouts(), known, st.integers(-5, 5), st.integers(-8, 8))
@hypothesis(deadline=None, max_examples=50)
def test_unit_and_origin_of_the_rewards_do_not_matter(
    made: list[Attempt], context: dict[str, Any], power: int, shift: int
) -> None:
    unit, floor = 2.0**power, context.pop("floor")
    moved = [
        replace(one, reward=one.reward * unit + shift, step_rewards=tuple(r * unit for r in one.step_rewards))
        for one in made
    ]
    before = observe(made, floor=floor, resolution=1 / 64, **context)
    after = observe(moved, floor=floor * unit + shift if floor is not None else None, resolution=unit / 64, **context)
    one, other = select(before).objective, select(after).objective
    assert (one and one.kind) == (other and other.kind)
    if isinstance(one, GroupRelative | Entropic | Preference):
        assert other.resolution == one.resolution * unit  # type: ignore[union-attr]
    if isinstance(one, PPO):
        assert other.value_clip == pytest.approx(one.value_clip * unit)  # type: ignore[union-attr]
    if isinstance(one, BestOfN) and one.threshold is not None:
        assert other.threshold == one.threshold * unit + shift  # type: ignore[union-attr]


def feeds(objective: Any, made: list[Attempt]) -> bool:
    """Whether the functions that trainers use find something in the rollouts that they can read."""
    readable = [one for one in made if one.recorded and (one.logprobs or objective.kind.supervised)]
    by_group: dict[str, list[float]] = {}
    for one in readable:
        by_group.setdefault(one.group, []).append(one.reward)
    match objective:
        case PPO():
            steps = [reward for one in readable for reward in one.step_rewards]
            return len({one.reward for one in readable}) > 1 or len(set(steps)) > 1
        case Preference():
            return any(ranked_pairs(rewards, objective) for rewards in by_group.values())
        case BestOfN():
            every: dict[str, list[Attempt]] = {}
            for one in made:
                every.setdefault(one.group, []).append(one)
            return any(
                best([one.reward for one in group], objective, [n for n, one in enumerate(group) if one.recorded])
                for group in every.values()
            )
        case Entropic():
            deep = {key: rewards for key, rewards in by_group.items() if len(rewards) >= 4}
            return any(any(found) for found in advantages_of(deep, objective).values())
        case _:
            return any(any(found) for found in advantages_of(by_group, objective).values())


@given(rollouts(), known)
@hypothesis(deadline=None, max_examples=80)
def test_no_objective_is_chosen_that_the_data_cannot_feed(made: list[Attempt], context: dict[str, Any]) -> None:
    signals = observe(made, **context)
    found = select(signals).objective
    if found is None:
        assert unfed(Objective.PREFERENCE if signals.ordinal or signals.ranked else Objective.GROUP_RELATIVE, signals)
    else:
        assert feeds(found, made)
    for objective, lacking in options(signals):  # what may be argued for can be fed too
        assert lacking or feeds(settings(objective, signals), made)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=12))
@hypothesis(deadline=None, max_examples=50)
def test_any_rewards_get_an_answer(rewards: list[float]) -> None:
    found = select(observe(groups(rewards, rewards[::2], rewards[1::2])))
    assert isinstance(found, Selection)
    assert found.reason.endswith(".")
