"""Datums: one sequence a rollout, choices under what was still possible, and nothing trained on silently."""

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from pawl.core import ConfigurationError, ModelCall, Note, RolloutStop, Trajectory
from pawl.training import Datum, Refusal, read_datums, to_datums, write_datums

from .training_fixtures import some_datums


def rollout(*steps: ModelCall | Note) -> Trajectory:
    return Trajectory(version="v1", item="i1", seed=3, steps=list(steps), stop=RolloutStop.ANSWERED)


def choice(
    prompt: list[int], taken: list[int], labels: list[list[int]], logprobs: list[float] | None = None
) -> ModelCall:
    return ModelCall(
        model="m",
        prompt="p",
        completion="c",
        prompt_token_ids=prompt,
        token_ids=taken,
        logprobs=logprobs or [-0.5] * len(taken),
        choices=[str(label) for label in labels],
        choice_token_ids=labels,
    )


def free(prompt: list[int], taken: list[int], **changes: object) -> ModelCall:
    call = ModelCall(
        model="m", prompt="p", completion="c", prompt_token_ids=prompt, token_ids=taken, logprobs=[-0.7] * len(taken)
    )
    return call.model_copy(update=changes)


def test_choices_field_by_field_become_one_sequence() -> None:
    trajectory = rollout(
        choice([1, 2], [11], [[10], [11], [12]]),
        Note(text="thinking"),
        choice([1, 2, 11, 5, 6], [21], [[20], [21]], [-0.1]),
        free([1, 2, 11, 5, 6, 21, 7], [30, 31]),
    )
    [datum] = to_datums(trajectory, 0.5, "g")
    assert datum.tokens == [1, 2, 11, 5, 6, 21, 7, 30, 31]
    assert datum.mask == [0, 0, 1, 0, 0, 1, 0, 1, 1]
    assert datum.behaviour_logprobs == [0, 0, -0.5, 0, 0, -0.1, 0, -0.7, -0.7]
    assert datum.advantages == [0, 0, 0.5, 0, 0, 0.5, 0, 0.5, 0.5]
    assert datum.allowed == [None, None, [10, 11, 12], None, None, [20, 21], None, None, None]
    assert (datum.policy_version, datum.group_id, datum.decisions) == ("v1", "g", 4)


def test_a_prompt_that_does_not_extend_the_former_starts_another_sequence() -> None:
    trajectory = rollout(free([1, 2], [3, 4]), free([1, 2, 3, 9], [5]), free([1, 2, 3, 9, 5], [6], temperature=0.5))
    assert [datum.tokens for datum in to_datums(trajectory, 1.0, "g")] == [
        [1, 2, 3, 4],
        [1, 2, 3, 9, 5],
        [1, 2, 3, 9, 5, 6],
    ]


def test_labels_of_several_tokens_are_walked_as_a_trie_and_forced_tokens_teach_nothing() -> None:
    labels = [[10, 20, 30], [10, 21], [11, 22]]
    [datum] = to_datums(rollout(choice([1], [10, 20, 30], labels, [-0.4, -0.6, 0.0])), 1.0, "g")
    assert datum.tokens == [1, 10, 20]  # the third token was forced, and nothing follows it
    assert datum.allowed == [None, [10, 11], [20, 21]]
    [datum] = to_datums(rollout(choice([1], [11, 22], labels, [-0.4, 0.0])), 1.0, "g")
    assert datum.tokens == [1, 11]


def test_the_end_of_a_label_that_others_go_on_from_is_a_choice() -> None:
    labels = [[10], [10, 20]]
    trajectory = rollout(choice([1], [10, 2], labels, [0.0, -0.3]))
    [datum] = to_datums(trajectory, 1.0, "g", end_token=2)
    assert datum.allowed == [None, None, [2, 20]]
    assert datum.mask == [0, 0, 1]
    refused = Counter[Refusal]()
    assert to_datums(trajectory, 1.0, "g", refused) == []
    assert refused == {Refusal.OPEN_END: 1}


def test_an_end_token_after_a_finished_label_is_forced() -> None:
    [datum] = to_datums(rollout(choice([1], [10, 2], [[10], [11]], [-0.3, 0.0]), free([1, 10, 2, 5], [6])), 1.0, "g")
    assert datum.mask == [0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (free([1], []), Refusal.NO_TOKENS),
        (free([], [3]), Refusal.NO_TOKENS),
        (free([1], [3], logprobs=[]), Refusal.NO_LOGPROBS),
        (free([1], [3], logprobs=[float("nan")]), Refusal.NO_LOGPROBS),
        (free([1], [3], logprobs=[0.5]), Refusal.NO_LOGPROBS),
        (free([1], [3], temperature=0.0), Refusal.GREEDY),
        (free([1], [3], choices=["a", "b"]), Refusal.NO_CHOICE_TOKENS),
        (choice([1], [9], [[10], [11]]), Refusal.OUTSIDE_CHOICES),
        (choice([1], [10], [[10]]), Refusal.NO_DECISION),
    ],
)
def test_a_call_that_cannot_be_trained_on_is_refused_by_rule_and_counted(call: ModelCall, rule: Refusal) -> None:
    refused = Counter[Refusal]()
    assert len(to_datums(rollout(free([1], [3]), call), 1.0, "g", refused)) == 1
    assert refused == {rule: 1}


def test_an_advantage_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected a finite number"):
        to_datums(rollout(free([1], [3])), float("nan"), "g")


def test_datums_survive_the_file_and_equal_ones_are_equal_bytes(tmp_path: Path) -> None:
    write_datums(tmp_path / "a.jsonl", some_datums())
    write_datums(tmp_path / "b.jsonl", read_datums(tmp_path / "a.jsonl"))
    assert list(read_datums(tmp_path / "a.jsonl")) == some_datums()
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


@pytest.mark.parametrize("line", ["not json", "{}", some_datums()[0].model_dump_json().replace("-3.0", "NaN")])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    good = some_datums()[0].model_dump_json()
    (tmp_path / "a.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"a\.jsonl line 2"):
        list(read_datums(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    "change",
    [
        {"mask": [0, 1]},
        {"mask": [0, 2, 0]},
        {"mask": [1, 0, 0]},
        {"allowed": [None, [7, 8], None]},
        {"advantages": [0.0, float("inf"), 0.0]},
        {"temperature": 0.0},
    ],
)
def test_an_inconsistent_datum_cannot_be_made(change: dict[str, object]) -> None:
    good: dict[str, object] = {
        "tokens": [1, 2, 3],
        "mask": [0, 1, 0],
        "behaviour_logprobs": [0.0, -1.0, 0.0],
        "advantages": [0.0, 1.0, 0.0],
        "allowed": [None, [2, 8], None],
        "policy_version": "v",
        "group_id": "g",
    }
    Datum.model_validate(good)
    with pytest.raises(ValidationError):
        Datum.model_validate(good | change)
