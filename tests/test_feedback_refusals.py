"""What is always refused is found, and nothing else is."""

import json
import random
from collections.abc import Callable

import pytest

from pawl.core import RolloutStop, ToolCall, Trajectory
from pawl.nodes.decision import Diagnosis
from pawl.nodes.failures import failure_class, failure_groups
from pawl.nodes.refusals import Attempt, always_refused, assignment_of, attempts_of

from .feedback_fixtures import FIELDS, Choices, refused_at_limits, rollouts, trajectory


def attempts(rule: Callable[[Choices], bool], count: int, seed: int = 0) -> list[Attempt]:
    rng = random.Random(seed)
    made: list[Attempt] = []
    for n in range(count):
        choices = {name: rng.choice(options) for name, options in FIELDS.items()}
        made.append(Attempt(str(n), f"i{n % 8}", frozenset(choices.items()), not rule(choices)))
    return made


def patterns(found: list[Attempt]) -> list[Choices]:
    return [dict(one.pattern) for one in always_refused(found)]


def test_a_single_option_that_is_always_refused_is_found() -> None:
    assert patterns(attempts(lambda one: one["block"] == "c", 48)) == [{"block": "c"}]


def test_a_pair_and_an_option_are_found_together_and_smallest() -> None:
    found = patterns(attempts(lambda one: one["fusion"] == "b" or (one["block"], one["stages"]) == ("c", "c"), 160))
    assert found == [{"fusion": "b"}, {"block": "c", "stages": "c"}]


def test_a_triple_is_found_with_enough_attempts() -> None:
    cause = {"block": "c", "stages": "c", "warps": "a"}
    assert patterns(attempts(lambda one: cause.items() <= one.items(), 600)) == [cause]


@pytest.mark.parametrize("seed", range(5))
def test_no_accepted_assignment_is_ever_pruned(seed: int) -> None:
    found = attempts(lambda one: (one["block"], one["stages"]) == ("c", "c") or one["warps"] == "b", 64, seed)
    for refusal in always_refused(found):
        assert not any(one.accepted and refusal.pattern <= one.assignment for one in found)
        assert refusal.support >= 3


def test_refusals_by_luck_are_seldom_taken_for_causes() -> None:
    rng = random.Random(7)
    found = [always_refused(attempts(lambda _: rng.random() < 0.2, 48, seed)) for seed in range(40)]
    wrong = sum(map(len, found)) / len(found)
    assert wrong < 1.0


def test_what_is_forbidden_already_is_not_found_again() -> None:
    found = attempts(lambda one: one["block"] == "c", 48)
    assert always_refused(found, [{"block": "c"}]) == []


def test_nothing_is_concluded_when_nothing_was_accepted() -> None:
    assert always_refused(attempts(lambda _: True, 48)) == []


def test_the_order_of_attempts_does_not_matter() -> None:
    found = attempts(lambda one: one["block"] == "c" or one["fusion"] == "a", 96)
    assert patterns(found) == patterns(found[::-1])


def test_one_label_among_many_items_is_found() -> None:
    made: list[Trajectory] = []
    for n in range(40):
        label, value = "ABCDEFGH"[n % 8], None if n % 8 == 3 else 0.5
        made.append(trajectory(f"i{n}", n, output=json.dumps({"label": label}), value=value, reasons=["no"]))
    assert patterns(attempts_of(made)) == [{"label": "D"}]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('{"schedule": {"a": "1", "b": "2"}}', {"a": "1", "b": "2"}),
        ('{"label": "x"}', {"label": "x"}),
        ({"schedule": {"a": "1"}}, {"a": "1"}),
        ('{"a": 1}', None),
        ("def f(): pass", None),
        ("[]", None),
        ("{}", None),
        ("[" * 100_000, None),
        (None, None),
    ],
)
def test_an_assignment_is_any_flat_object_of_strings(output: object, expected: Choices | None) -> None:
    found = assignment_of(output)
    assert (dict(found) if found is not None else None) == expected


def test_verdicts_of_the_verifier_count_as_evidence() -> None:
    refused = ToolCall(
        name="verify", arguments={"output": '{"schedule": {"a": "1"}}'}, result={"accepted": False, "reasons": ["x"]}
    )
    one = trajectory("i", 1, choices={"a": "2"}, value=0.5)
    found = attempts_of([one.model_copy(update={"steps": [*one.steps, refused]})])
    assert [(dict(each.assignment), each.accepted) for each in found] == [({"a": "1"}, False), ({"a": "2"}, True)]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("shared-memory", Diagnosis.REFUSED),
        ("registers", Diagnosis.REFUSED),
        ("compile-error", Diagnosis.REFUSED),
        ("wrong-result", Diagnosis.WRONG),
        ("precision", Diagnosis.WRONG),
        ("syntax-error", Diagnosis.MALFORMED),
        ("bad-output", Diagnosis.MALFORMED),
        ("no-custom-kernel", Diagnosis.MALFORMED),
        ("crash", Diagnosis.CRASHED),
        ("timeout", Diagnosis.CRASHED),
    ],
)
def test_a_graders_code_tells_the_class_wherever_it_is_given(code: str, kind: Diagnosis) -> None:
    by_reason = trajectory("i", 1, output="x", reasons=[code])
    assert by_reason.grade is not None
    grade = by_reason.grade.model_copy(update={"reasons": ["a sentence."], "details": {"failure_class": code}})
    assert failure_class(by_reason) is kind
    assert failure_class(by_reason.model_copy(update={"grade": grade})) is kind


def test_failures_group_by_signature_with_every_trajectory_in_one_group() -> None:
    made = [
        *rollouts(refused_at_limits, items=2),
        trajectory("x", 1, reasons=["wrong-result"]),
        trajectory("x", 2, reasons=["wrong-result"]),
        trajectory("x", 3, stop=RolloutStop.CRASHED),
        trajectory("x", 4, stop=RolloutStop.NO_OUTPUT),
    ]
    groups = failure_groups(made)
    failed = [one.id for one in made if failure_class(one) is not None]
    assert sorted(id_ for group in groups for id_ in group.trajectories) == sorted(failed)
    assert groups == failure_groups(made[::-1])
    assert {group.signature.kind for group in groups} == {
        Diagnosis.REFUSED,
        Diagnosis.WRONG,
        Diagnosis.CRASHED,
        Diagnosis.MALFORMED,
    }
    assert [group.count for group in groups] == sorted((group.count for group in groups), reverse=True)
