"""From graded rollouts to datums: each objective's, and everything that is left out counted by its rule."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from pawl.core import Grade, ModelCall, Note, RolloutStop, ToolCall, Trajectory
from pawl.training import (
    PPO,
    BestOfN,
    Drop,
    Entropic,
    GroupRelative,
    Overlong,
    Preference,
    Refusal,
    Reinforce,
    entropic,
    group_relative,
    make_dataset,
)
from pawl.training.advantages import reinforce
from pawl.training.dataset import STEP_REWARDS, Dataset


def call(prompt: Sequence[int], taken: Sequence[int], **changes: Any) -> ModelCall:
    made = ModelCall(
        model="m",
        prompt="p",
        completion="c",
        prompt_token_ids=list(prompt),
        token_ids=list(taken),
        logprobs=[-0.5] * len(taken),
    )
    return made.model_copy(update=changes)


def rollout(
    item: str, seed: int, grade: float | None, *steps: Any, version: str = "live", details: dict[str, Any] | None = None
) -> Trajectory:
    return Trajectory(
        version=version,
        item=item,
        seed=seed,
        steps=list(steps) or [call([1, 2], [10 + seed])],
        stop=RolloutStop.ANSWERED,
        grade=None if grade is None else Grade(value=grade, valid=True, details=details or {}),
    )


def up(value: float) -> float:
    return value


def group(item: str, *grades: float) -> list[Trajectory]:
    return [rollout(item, seed, grade) for seed, grade in enumerate(grades)]


def by_rollout(dataset: Dataset) -> list[float]:
    return [max(datum.advantages, key=abs) for datum in dataset.datums]


def test_each_policy_gradient_gets_its_advantages() -> None:
    rollouts = [*group("a", 0.0, 1.0, 1.0, 3.0), *group("b", 5.0, 6.0, 6.0, 6.0)]
    first, second = [0.0, 1.0, 1.0, 3.0], [5.0, 6.0, 6.0, 6.0]
    for objective, expected in (
        (GroupRelative(), [*group_relative(first), *group_relative(second)]),
        (Entropic(), [*entropic(first), *entropic(second)]),
        (Reinforce(), reinforce([*first, *second])),
    ):
        dataset = make_dataset(rollouts, objective, up)
        assert by_rollout(dataset) == pytest.approx(expected)
        assert [datum.group_id for datum in dataset.datums] == ["a"] * 4 + ["b"] * 4
        assert (dataset.used, dataset.dropped) == (8, {})
    turned = make_dataset(rollouts, GroupRelative(), lambda value: -value)
    assert by_rollout(turned) == pytest.approx([-x for x in [*group_relative(first), *group_relative(second)]])


def test_supervised_objectives_get_the_rollouts_that_they_chose() -> None:
    rollouts = [*group("a", 0.0, 3.0, 1.0), *group("b", 2.0, 2.0)]
    best = make_dataset(rollouts, BestOfN(), up)
    assert [datum.tokens[-1] for datum in best.datums] == [11]
    assert best.dropped == {Drop.NOT_CHOSEN: 2, Drop.TIED: 2}
    pairs = make_dataset(rollouts, Preference(pairs=1), up)
    assert [(datum.tokens[-1], datum.advantages[-1]) for datum in pairs.datums] == [(11, 1.0), (10, -1.0)]
    assert pairs.dropped == {Drop.NOT_CHOSEN: 1, Drop.TIED: 2}
    assert (best.used, pairs.used) == (1, 2)


def test_what_cannot_be_learned_from_is_dropped_by_rule_and_counted() -> None:
    greedy = call([1, 2], [3], temperature=0.0)
    rollouts = [
        *group("good", 0.0, 1.0, 0.5),
        rollout("good", 7, math.nan),
        rollout("good", 8, math.inf),
        rollout("good", 15, -1e308),  # finite, but a variance of such is not
        rollout("good", 9, None),
        rollout("good", 0, 0.0),  # the first again
        rollout("good", 10, 9.0, greedy),  # nor does its reward move the others' baseline
        rollout("good", 11, 9.0, call([1, 2], [3], logprobs=[])),
        rollout("good", 12, 9.0, Note(text="it crashed before it asked")),
        rollout("good", 13, 9.0, version="unknown"),
        rollout("good", 14, 9.0, version="old"),
        rollout("lone", 0, 1.0),
        *group("tied", 1.0, 1.0 + 1e-9, 1.0),
    ]
    dataset = make_dataset(rollouts, GroupRelative(), up, ages={"live": 0, "old": 2}, staleness=1)
    assert by_rollout(dataset) == pytest.approx(group_relative([0.0, 1.0, 0.5]))
    assert dataset.dropped == {
        Drop.NOT_FINITE: 3,
        Drop.UNGRADED: 1,
        Drop.REPEATED: 1,
        Drop.NO_DATUMS: 3,
        Drop.STALE: 2,
        Drop.LONE: 1,
        Drop.TIED: 3,
    }
    assert dataset.refused == {Refusal.GREEDY: 1, Refusal.NO_LOGPROBS: 1}
    assert (dataset.rollouts, dataset.used) == (17, 3)
    assert dataset.counts == {
        "rollouts": 17,
        "used": 3,
        "datums": 3,
        "groups": 1,
        "dropped": {
            "lone": 1,
            "nothing_to_train_on": 3,
            "repeated": 1,
            "reward_not_finite": 3,
            "stale": 2,
            "tied": 3,
            "ungraded": 1,
        },
        "refused_calls": {"greedy": 1, "no_logprobs": 1},
    }
    assert "3 of 17 rollouts used; dropped: 1 lone, 3 nothing_to_train_on" in dataset.summary
    assert "model calls refused: 1 greedy, 1 no_logprobs" in dataset.summary


def test_an_empty_set_and_one_with_nothing_in_it_are_empty_datasets() -> None:
    for objective in (PPO(), GroupRelative(), Entropic(), Reinforce(), BestOfN(), Preference()):
        assert make_dataset([], objective, up).datums == []
        dataset = make_dataset(group("a", 1.0, 1.0), objective, up)
        assert (dataset.datums, dataset.used, dataset.dropped) == ([], 0, {Drop.TIED: 2})


def test_rollouts_of_an_older_policy_are_compared_with_each_other_alone() -> None:
    rollouts = [*group("a", 0.0, 1.0), *(each.model_copy(update={"version": "old"}) for each in group("a", 5.0, 9.0))]
    dataset = make_dataset(rollouts, GroupRelative(), up, ages={"live": 0, "old": 1}, staleness=1)
    assert by_rollout(dataset) == pytest.approx([-1.0, 1.0, -1.0, 1.0])
    assert [datum.group_id for datum in dataset.datums] == ["a", "a", "a@1", "a@1"]


def test_rewards_on_the_way_go_to_the_decisions_that_earned_them_and_sum_up_to_the_grade() -> None:
    tool = ToolCall(name="check", arguments={}, result=None)
    steps = (call([1], [5, 6]), tool, call([1, 5, 6, 7], [8]), call([2, 2], [9]), Note(text="done"))
    graded = rollout("a", 0, 2.0, *steps, details={STEP_REWARDS: [0.1, 0.2, 0.3, 0.4, 0.0]})
    dataset = make_dataset([graded, rollout("a", 1, 5.0)], PPO(), up)
    first, second, last = dataset.datums
    assert first.tokens == [1, 5, 6, 7, 8]
    assert first.rewards == pytest.approx([0, 0, 0.1 + 0.2, 0, 0.3])
    assert second.rewards == pytest.approx([0, 0, 0.4 + 1.0])  # and what is left of the grade
    assert last.rewards == pytest.approx([0, 0, 5.0])
    assert (first.rollout_id, first.part, second.part) == (graded.id, 0, 1)
    assert second.rollout_id == first.rollout_id != last.rollout_id
    turned = make_dataset([graded, rollout("a", 1, 5.0)], PPO(), lambda value: -value)
    assert turned.datums[0].rewards == pytest.approx([0, 0, -0.3, 0, -0.3])


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ([1.0, 2.0], Drop.BAD_STEP_REWARDS),
        ("1.0", Drop.BAD_STEP_REWARDS),
        ([True], Drop.BAD_STEP_REWARDS),
        ([math.nan], Drop.NOT_FINITE),
    ],
)
def test_misshapen_rewards_on_the_way_drop_the_rollout(given: object, rule: Drop) -> None:
    bad = rollout("a", 5, 1.0, details={STEP_REWARDS: given})
    assert make_dataset([*group("a", 0.0, 1.0), bad], PPO(), up).dropped == {rule: 1}


def test_a_long_answer_pays_before_it_is_compared() -> None:
    objective = GroupRelative(overlong=Overlong(longest=6, margin=4, weight=3.0))
    rollouts = [rollout("a", 0, 1.0, call([1], [5] * 6)), rollout("a", 1, 0.0, call([1], [5] * 2))]
    assert by_rollout(make_dataset(rollouts, objective, up)) == pytest.approx([-1.0, 1.0])


def test_a_rollout_that_failed_is_still_what_the_imitated_have_to_beat() -> None:
    failed = rollout("a", 5, -1.0, Note(text="it crashed before it asked"))
    dataset = make_dataset([rollout("a", 0, 1.0), failed], BestOfN(), up)
    assert (len(dataset.datums), dataset.dropped) == (1, {Drop.NO_DATUMS: 1})
