"""The measured Feedback-Agent pulls the lever that the planted evidence asks for."""

import random
from pathlib import Path

import pytest

from pawl.core import Home, RolloutStop, Usage
from pawl.evals.scaffold import Mode, ScaffoldConfig
from pawl.graph.checkpoints import open_saver
from pawl.nodes.decision import Decision, Diagnosis, Lever, Objective, Operator
from pawl.nodes.evidence import BudgetLeft, RoundEvidence
from pawl.nodes.feedback_measured import MOST_CITED, MeasuredFeedback
from pawl.nodes.measurements import measure, signals_of
from pawl.nodes.prospects import Rule, weights_prospect
from pawl.training import PPO, BestOfN, Entropic, GroupRelative, Preference, Reinforce, Scale
from pawl.training.objectives import Overlong
from pawl.training.selector import Thresholds, select

from .feedback_fixtures import METRIC, USAGE, dense, evidence, pulled, refused_at_limits, rollouts, settled, trajectory


async def decide(given: RoundEvidence) -> Decision:
    decision = await MeasuredFeedback().decide(given)
    known = {one.id for one in given.trajectories}
    assert set(decision.evidence) <= known
    assert len(decision.evidence) <= MOST_CITED
    assert Decision.model_validate_json(decision.model_dump_json()) == decision
    return decision


# --- where the scaffold is right


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("items", "attempts"), [(8, 4), (16, 4), (8, 8)])
async def test_refusals_with_a_common_cause_are_the_scaffolds(seed: int, items: int, attempts: int) -> None:
    given = evidence(rollouts(refused_at_limits, items=items, attempts=attempts, seed=seed))
    decision = await decide(given)
    assert (decision.lever, decision.diagnosis) == (Lever.SCAFFOLD, Diagnosis.REFUSED)
    assert "shared-memory" in decision.reason
    failed = {one.id for one in given.trajectories if one.grade and not one.grade.valid}
    assert decision.evidence
    assert set(decision.evidence) <= failed


async def test_most_draws_of_planted_refusals_are_told_from_luck() -> None:
    found = [bool(measure(evidence(rollouts(refused_at_limits, attempts=4, seed=seed))).refusals) for seed in range(10)]
    assert sum(found) >= 8


async def test_malformed_answers_of_a_capable_model_are_the_scaffolds() -> None:
    rng = random.Random(1)
    made = [
        trajectory(f"i{n % 8}", n, value=0.8 + rng.gauss(0, 0.02), output="def f(): ...", entropy=0.1)
        if n % 3
        else trajectory(f"i{n % 8}", n, output="Sure! Here", reasons=["syntax-error"], entropy=0.1)
        for n in range(48)
    ]
    decision = await decide(evidence(made, capable=True, trainable=False, scaffold=ScaffoldConfig(mode=Mode.SOURCE)))
    assert (decision.lever, decision.diagnosis) == (Lever.SCAFFOLD, Diagnosis.MALFORMED)


async def test_timeouts_of_many_samples_are_the_scaffolds() -> None:
    heavy = ScaffoldConfig(mode=Mode.SCHEDULE, samples=16)
    made = [
        trajectory(f"i{n % 8}", n, value=0.8, entropy=0.0)
        if n % 2
        else trajectory(f"i{n % 8}", n, stop=RolloutStop.TIMED_OUT, entropy=0.0)
        for n in range(48)
    ]
    decision = await decide(evidence(made, scaffold=heavy))
    assert (decision.lever, decision.diagnosis) == (Lever.SCAFFOLD, Diagnosis.TIMED_OUT)


async def test_spread_that_cannot_be_trained_is_the_scaffolds() -> None:
    decision = await decide(evidence(rollouts(dense), trainable=False))
    assert (decision.lever, decision.diagnosis) == (Lever.SCAFFOLD, Diagnosis.SPREAD)


async def test_spread_under_a_policy_that_is_sure_is_the_scaffolds() -> None:
    assert (await decide(evidence(rollouts(dense, entropy=0.02)))).lever is Lever.SCAFFOLD


async def test_likelier_and_better_answers_ask_for_a_cooler_policy() -> None:
    made = rollouts(dense, entropy=0.3, logprob=lambda choices, rng: 6.0 * (dense(choices, rng) or 0.0) - 9.0)
    decision = await decide(evidence(made, trainable=False))
    assert (decision.lever, decision.diagnosis) == (Lever.SCAFFOLD, Diagnosis.LIKELIHOOD)


# --- where the weights are right


@pytest.mark.parametrize("seed", range(4))
async def test_rewards_that_vary_with_undecided_choices_are_the_weights(seed: int) -> None:
    decision = await decide(evidence(rollouts(dense, seed=seed, attempts=4)))
    assert (decision.lever, decision.diagnosis) == (Lever.WEIGHTS, Diagnosis.SPREAD)
    assert decision.objective is not None
    assert decision.objective.kind is Objective.GROUP_RELATIVE
    assert decision.expected_cost.training_steps > 0
    assert decision.evidence


async def test_weights_follow_once_the_refusals_are_pruned() -> None:
    pruned = ScaffoldConfig(mode=Mode.SCHEDULE, pruned=[{"block": "c", "stages": "c"}, {"fusion": "a", "warps": "c"}])
    history = [pulled(1, Lever.SCAFFOLD, operator=Operator.PRUNE, promoted=True, gain=0.4, brought=0.38)]
    given = evidence(rollouts(dense, entropy=0.8, attempts=4), round=2, scaffold=pruned, history=history)
    assert (await decide(given)).lever is Lever.WEIGHTS


async def test_refusals_go_to_the_weights_when_the_scaffold_was_pulled_in_vain() -> None:
    made = rollouts(refused_at_limits, seed=2)
    assert (await decide(evidence(made))).lever is Lever.SCAFFOLD
    history = [pulled(n, Lever.SCAFFOLD, operator=Operator.PRUNE) for n in (1, 2)]
    assert (await decide(evidence(made, round=2, history=history[:1]))).lever is Lever.SCAFFOLD
    assert (await decide(evidence(made, round=3, history=history))).lever is Lever.WEIGHTS


async def test_a_promise_is_believed_by_the_share_that_was_kept() -> None:
    kept = pulled(1, Lever.WEIGHTS, promoted=True, gain=0.2, brought=0.2)
    half = pulled(1, Lever.WEIGHTS, promoted=True, gain=0.2, brought=0.1)
    none = pulled(1, Lever.WEIGHTS, promoted=False)
    gains: list[float] = []
    for record in (kept, half, none):
        given = evidence(rollouts(dense), round=2, history=[record])
        measured = measure(given)
        gains.append(weights_prospect(given, measured, Rule()).gain / measured.within_sd)
    full = gains[0]
    assert gains == pytest.approx([full, 0.75 * full, 0.5 * full])


async def test_rare_far_better_attempts_ask_for_the_entropic_objective() -> None:
    rare = rollouts(lambda choices, _: 2.0 if (choices["group"], choices["layout"]) == ("a", "b") else 0.3)
    decision = await decide(evidence(rare))
    assert (decision.lever, decision.objective and decision.objective.kind) == (Lever.WEIGHTS, Objective.ENTROPIC)


async def test_the_entropic_objective_needs_groups_of_four() -> None:
    rare = rollouts(lambda choices, _: 2.0 if choices["group"] == "a" else 0.3, items=30, attempts=3)
    assert isinstance(select(signals_of(evidence(rare))).objective, GroupRelative)


async def test_the_reason_for_an_objective_and_its_parameters_are_in_the_decision() -> None:
    rare = rollouts(lambda choices, _: 2.0 if (choices["group"], choices["layout"]) == ("a", "b") else 0.3)
    decision = await decide(evidence(rare))
    assert decision.objective == Entropic(resolution=0.005, beta_max=200.0)  # a tenth of the metric's margin
    assert "skewness" in decision.objective_reason
    assert "64 rollouts in 8 groups of 8" in decision.objective_reason
    assert decision.default_objective is None


async def test_the_numbers_of_the_objectives_rule_can_be_argued_with() -> None:
    rare = rollouts(lambda choices, _: 2.0 if (choices["group"], choices["layout"]) == ("a", "b") else 0.3)
    decision = await MeasuredFeedback(thresholds=Thresholds(skew=9.0)).decide(evidence(rare))
    assert isinstance(decision.objective, GroupRelative)


async def test_a_metric_that_only_ranks_is_learned_from_by_pairs() -> None:
    ordinal = METRIC.model_copy(update={"ordinal": True})
    decision = await decide(evidence(rollouts(dense), metric=ordinal))
    assert decision.objective is not None
    assert decision.objective.kind is Objective.PREFERENCE


@pytest.mark.parametrize("at_risk", ["another task is live", "trained weights did not hold out before"])
async def test_step_rewards_under_risk_of_regression_ask_for_reinforce(at_risk: str) -> None:
    stepped = [
        one.model_copy(
            update={"grade": one.grade.model_copy(update={"details": {"step_rewards": [0.1] * len(one.steps)}})}
        )
        for one in rollouts(dense, attempts=4)
        if one.grade is not None
    ]
    lost = pulled(1, Lever.WEIGHTS).model_copy(update={"outcomes": {"target": "passed", "holdout": "failed"}})
    live = at_risk == "another task is live"
    given = evidence(stepped, round=2, guarded=1) if live else evidence(stepped, round=2, history=[lost])
    assert isinstance(select(signals_of(given)).objective, Reinforce)
    assert signals_of(given).density == 1.0
    assert not signals_of(evidence(stepped)).at_risk


async def test_common_successes_ask_for_the_group_relative_objective() -> None:
    common = rollouts(lambda choices, _: 0.3 if choices["group"] == "a" else 1.0)
    decision = await decide(evidence(common))
    assert decision.objective is not None
    assert decision.objective.kind is Objective.GROUP_RELATIVE


# --- where stopping is right


async def test_nothing_to_gain_stops() -> None:
    decision = await decide(evidence(rollouts(settled)))
    assert (decision.lever, decision.diagnosis) == (Lever.STOP, Diagnosis.NO_PROMISE)
    assert decision.objective is None
    assert decision.expected_cost == Usage()


async def test_gains_far_below_the_margin_stop() -> None:
    rng = random.Random(3)
    noise = rollouts(lambda _choices, _: 0.9 + rng.gauss(0, 0.002))
    assert (await decide(evidence(noise))).diagnosis is Diagnosis.NO_PROMISE


async def test_both_levers_in_vain_twice_is_a_plateau() -> None:
    history = [
        pulled(1, Lever.SCAFFOLD, operator=Operator.PRUNE, promoted=True),
        pulled(2, Lever.WEIGHTS),
        pulled(3, Lever.SCAFFOLD, operator=Operator.SAMPLES),
        pulled(4, Lever.WEIGHTS),
        pulled(5, Lever.SCAFFOLD, operator=Operator.EXEMPLARS),
    ]
    made = rollouts(dense)
    assert (await decide(evidence(made, round=6, history=history))).diagnosis is Diagnosis.PLATEAU
    assert (await decide(evidence(made, round=5, history=history[:-1]))).lever is not Lever.STOP
    promoted = [*history, pulled(6, Lever.WEIGHTS, promoted=True, brought=0.2)]
    assert (await decide(evidence(made, round=7, history=promoted))).lever is not Lever.STOP


async def test_a_lever_that_is_out_of_reach_does_not_hold_a_plateau_up() -> None:
    history = [pulled(n, Lever.SCAFFOLD, operator=Operator.SAMPLES) for n in (1, 2)]
    decision = await decide(evidence(rollouts(dense), round=3, history=history, trainable=False))
    assert decision.diagnosis is Diagnosis.PLATEAU


async def test_an_empty_budget_stops_and_says_so() -> None:
    decision = await decide(evidence(rollouts(refused_at_limits), budget=BudgetLeft(verifications=3)))
    assert (decision.lever, decision.diagnosis) == (Lever.STOP, Diagnosis.BUDGET)
    assert "verifications=3" in decision.reason


async def test_what_the_budget_cannot_pay_gives_way_to_what_it_can() -> None:
    decision = await decide(evidence(rollouts(dense), budget=BudgetLeft(training_steps=1)))
    assert decision.lever is Lever.SCAFFOLD


async def test_a_dead_endpoint_stops() -> None:
    made = [trajectory(f"i{n}", n, stop=RolloutStop.MODEL_FAILED) for n in range(12)]
    decision = await decide(evidence(made))
    assert (decision.lever, decision.diagnosis) == (Lever.STOP, Diagnosis.MODEL_FAILED)


async def test_a_round_without_rollouts_stops() -> None:
    assert (await decide(evidence([]))).lever is Lever.STOP


# --- what may be trained at all


async def test_weights_are_never_pulled_without_log_probabilities() -> None:
    made = [
        one.model_copy(update={"steps": [step.model_copy(update={"logprobs": []}) for step in one.steps]})
        for one in rollouts(dense)
    ]
    assert (await decide(evidence(made))).lever is not Lever.WEIGHTS


async def test_weights_are_never_pulled_on_one_group() -> None:
    assert (await decide(evidence(rollouts(dense, items=1, attempts=16)))).lever is not Lever.WEIGHTS


async def test_weights_are_never_pulled_on_single_attempts() -> None:
    assert (await decide(evidence(rollouts(dense, items=32, attempts=1)))).lever is not Lever.WEIGHTS


async def test_a_round_without_one_valid_output_is_decided_like_any_other() -> None:
    made = [
        trajectory(f"i{n % 4}", n, choices={"a": str(n % 3)}, reasons=["registers"], usage=USAGE) for n in range(16)
    ]
    decision = await decide(evidence(made))
    assert decision.lever in (Lever.SCAFFOLD, Lever.STOP)
    assert decision.expected_gain <= METRIC.best - METRIC.worst


# --- what a checkpoint keeps of a decision


@pytest.mark.parametrize("objective", [PPO(), GroupRelative(), Entropic(), Reinforce(), BestOfN(), Preference()])
async def test_a_decision_comes_back_from_a_checkpoint_with_its_objective(tmp_path: Path, objective: object) -> None:
    decision = Decision(
        lever=Lever.WEIGHTS,
        diagnosis=Diagnosis.SPREAD,
        objective=objective,
        objective_reason="Argued.",
        default_objective=GroupRelative(scale=Scale.NONE, overlong=Overlong(longest=9, margin=3)),
        reason="Spread.",
    )
    async with open_saver(Home(tmp_path), None) as saver:
        back = saver.serde.loads_typed(saver.serde.dumps_typed({"decision": decision}))
    assert back == {"decision": decision}


def test_a_decision_of_an_older_checkpoint_names_its_objective_and_is_read_with_defaults() -> None:
    old = {"lever": "weights", "diagnosis": "spread", "objective": "entropic", "reason": "Spread."}
    assert Decision.model_validate(old).objective == Entropic()


def test_setting_the_rules_objective_aside_takes_a_reason() -> None:
    with pytest.raises(ValueError, match="was set aside"):
        Decision(
            lever=Lever.WEIGHTS,
            diagnosis=Diagnosis.SPREAD,
            objective=Entropic(),
            default_objective=GroupRelative(),
            reason="Spread.",
        )
