"""The typed editor treats the diagnosis, changes something every time, and never the same twice."""

import json

import pytest

from pawl.core import RolloutStop, digest_tree
from pawl.evals.scaffold import FILE, Mode, ScaffoldConfig
from pawl.nodes.decision import Decision, Diagnosis, Lever, Operator
from pawl.nodes.editor import Edit
from pawl.nodes.editor_typed import TypedEditor
from pawl.nodes.evidence import RoundEvidence, RoundRecord
from pawl.nodes.feedback_measured import MeasuredFeedback

from .feedback_fixtures import dense, evidence, pulled, refused_at_limits, rollouts, settled, trajectory

PLAIN = ScaffoldConfig(mode=Mode.SCHEDULE, prompt={"task": "Choose."})


def tree(config: ScaffoldConfig = PLAIN) -> dict[str, bytes]:
    return {"agent.py": b"print('hello')\n", FILE: config.model_dump_json().encode()}


def diagnosed(diagnosis: Diagnosis) -> Decision:
    return Decision(lever=Lever.SCAFFOLD, diagnosis=diagnosis, reason="planted")


def config_of(edit: Edit) -> ScaffoldConfig:
    return ScaffoldConfig.model_validate_json(edit.files[FILE])


async def edited(given: RoundEvidence, diagnosis: Diagnosis, config: ScaffoldConfig = PLAIN, seed: int = 1) -> Edit:
    return await TypedEditor().edit(tree(config), diagnosed(diagnosis), given, seed)


async def test_refusals_are_pruned_by_their_planted_causes() -> None:
    edit = await edited(evidence(rollouts(refused_at_limits, seed=1)), Diagnosis.REFUSED)
    assert edit.operator is Operator.PRUNE
    pruned = sorted(sorted(one.items()) for one in config_of(edit).pruned)
    assert pruned == [[("block", "c"), ("stages", "c")], [("fusion", "a"), ("warps", "c")]]
    assert "block=c & stages=c" in edit.summary
    assert edit.diff.startswith(f"--- a/{FILE}\n+++ b/{FILE}\n")


async def test_spread_is_met_by_drawing_more_or_showing_the_best() -> None:
    edit = await edited(evidence(rollouts(dense)), Diagnosis.SPREAD)
    assert edit.operator in (Operator.SAMPLES, Operator.EXEMPLARS)


async def test_likelier_is_better_makes_the_policy_cooler_and_worse_warmer() -> None:
    for sign, operator in ((4.0, Operator.COOLER), (-4.0, Operator.WARMER)):
        made = rollouts(dense, logprob=lambda choices, rng, sign=sign: sign * (dense(choices, rng) or 0) - 9)
        edit = await edited(evidence(made), Diagnosis.LIKELIHOOD)
        assert edit.operator is operator
        assert (config_of(edit).temperature < 1.0) is (operator is Operator.COOLER)


async def test_malformed_answers_are_told_the_form_by_a_good_example() -> None:
    made = [
        trajectory(f"i{n % 4}", n, choices={"a": "1", "b": "2"}, value=0.5)
        if n % 2
        else trajectory(f"i{n % 4}", n, output="no idea", reasons=["bad-output"])
        for n in range(16)
    ]
    edit = await edited(evidence(made, capable=True), Diagnosis.MALFORMED)
    assert edit.operator in (Operator.PROMPT, Operator.REPAIRS)
    prompt = await edited(
        evidence(made, capable=True, history=[pulled(n, Lever.SCAFFOLD, operator=Operator.REPAIRS) for n in range(9)]),
        Diagnosis.MALFORMED,
    )
    assert prompt.operator is Operator.PROMPT
    assert any('{"schedule": {"a": "1", "b": "2"}}' in part for part in config_of(prompt).prompt.values())


async def test_timeouts_make_the_scaffold_lighter() -> None:
    heavy = PLAIN.model_copy(update={"samples": 3})
    made = [
        trajectory(f"i{n % 4}", n, value=0.5) if n % 2 else trajectory(f"i{n % 4}", n, stop=RolloutStop.TIMED_OUT)
        for n in range(16)
    ]
    edit = await edited(evidence(made), Diagnosis.TIMED_OUT, heavy)
    assert edit.operator is Operator.LIGHTER
    assert config_of(edit).samples == 2


async def test_an_operator_that_disappointed_gives_way_to_one_that_delivered() -> None:
    given = evidence(rollouts(dense))
    first = (await edited(given, Diagnosis.SPREAD)).operator
    history = [pulled(n, Lever.SCAFFOLD, operator=first) for n in range(1, 25)]
    later = await edited(given.model_copy(update={"history": history}), Diagnosis.SPREAD)
    assert later.operator is not first
    kept = [pulled(n, Lever.SCAFFOLD, operator=first, promoted=True, gain=0.2, brought=0.2) for n in range(1, 25)]
    again = await edited(given.model_copy(update={"history": kept}), Diagnosis.SPREAD)
    assert again.operator is first


@pytest.mark.parametrize("grade", [refused_at_limits, dense])
async def test_no_scaffold_is_proposed_twice_and_none_is_the_live_one(grade: object) -> None:
    assert callable(grade)
    made = rollouts(grade, logprob=lambda choices, rng: 3 * (dense(choices, rng) or 0) - 8)
    scaffold, history = tree(), list[RoundRecord]()
    seen = {digest_tree(scaffold)}
    operators: set[Operator] = set()
    for round_ in range(1, 30):
        given = evidence(made, round=round_, history=history)
        edit = await TypedEditor().edit(scaffold, diagnosed(Diagnosis.REFUSED), given, round_)
        if edit.operator is Operator.NONE:
            break
        digest = digest_tree(edit.apply(scaffold))
        assert digest not in seen
        seen.add(digest)
        operators.add(edit.operator)
        history.append(pulled(round_, Lever.SCAFFOLD, operator=edit.operator, scaffold=digest))
    else:
        pytest.fail("the operators never ran out of new scaffolds")
    assert len(operators) >= 3
    assert edit.files == {}
    assert edit.apply(scaffold) == scaffold


async def test_the_diagnosis_comes_before_the_greater_promise() -> None:
    made = rollouts(refused_at_limits, seed=1, logprob=lambda choices, rng: 4 * (dense(choices, rng) or 0) - 9)
    given = evidence(made)
    assert (await edited(given, Diagnosis.REFUSED)).operator is Operator.PRUNE
    assert (await edited(given, Diagnosis.LIKELIHOOD)).operator is Operator.COOLER
    assert (await edited(given, Diagnosis.SPREAD)).operator in (Operator.SAMPLES, Operator.EXEMPLARS)


async def test_exemplars_are_the_best_outputs_of_different_items() -> None:
    given = evidence(rollouts(dense), scaffold=PLAIN)
    history = [pulled(n, Lever.SCAFFOLD, operator=Operator.SAMPLES) for n in range(1, 25)]
    edit = await edited(given.model_copy(update={"history": history}), Diagnosis.SPREAD)
    assert edit.operator is Operator.EXEMPLARS
    (shown,) = config_of(edit).exemplars
    best = max(one.grade.value for one in given.trajectories if one.grade)
    assert shown.grade == best
    assert json.loads(shown.output)["schedule"]


async def test_exemplars_leave_out_what_every_item_is_given_alike() -> None:
    given = evidence(rollouts(dense))
    long = {item: {**payload, "contract": "x" * 5000} for item, payload in given.payloads.items()}
    history = [pulled(n, Lever.SCAFFOLD, operator=Operator.SAMPLES) for n in range(1, 25)]
    edit = await edited(given.model_copy(update={"history": history, "payloads": long}), Diagnosis.SPREAD)
    assert edit.operator is Operator.EXEMPLARS
    assert [set(one.payload) for one in config_of(edit).exemplars] == [{"n"}]


async def test_the_same_question_gets_the_same_edit() -> None:
    given = evidence(rollouts(refused_at_limits))
    shuffled = given.model_copy(update={"trajectories": given.trajectories[::-1]})
    assert await edited(given, Diagnosis.REFUSED) == await edited(shuffled, Diagnosis.REFUSED)


async def test_only_the_typed_part_changes() -> None:
    scaffold = tree()
    given = evidence(rollouts(refused_at_limits))
    changed = (await TypedEditor().edit(scaffold, diagnosed(Diagnosis.REFUSED), given, 1)).apply(scaffold)
    assert {path for path in changed if changed[path] != scaffold.get(path)} == {FILE}


@pytest.mark.parametrize("broken", [{}, {FILE: b"{"}, {FILE: b"\xff\xfe"}, {FILE: b'{"mode": "nonsense"}'}])
async def test_a_scaffold_without_a_readable_typed_part_is_left_alone(broken: dict[str, bytes]) -> None:
    edit = await TypedEditor().edit(broken, diagnosed(Diagnosis.REFUSED), evidence(rollouts(dense)), 1)
    assert edit.operator is Operator.NONE
    assert FILE in edit.summary


async def test_nothing_to_gain_is_said_not_guessed() -> None:
    edit = await edited(evidence(rollouts(settled)), Diagnosis.SPREAD)
    assert edit.operator is Operator.NONE


async def test_what_the_feedback_agent_promises_the_editor_can_do() -> None:
    given = evidence(rollouts(refused_at_limits, attempts=4))
    decision = await MeasuredFeedback().decide(given)
    edit = await TypedEditor().edit(tree(), decision, given, 1)
    assert edit.operator is Operator.PRUNE
