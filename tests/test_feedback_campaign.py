"""Feedback-Agent and editor together, round after round, on a policy whose true skill is known.

The policy is a table of logits over ten fields and training is one exponential tilt by the advantages: a double for
the model and the trainer, which these tests would take minutes to run.
"""

import json
import math
import random
from statistics import fmean

import pytest

from pawl.core import Grade, ModelCall, RolloutStop, Trajectory, Usage, digest_tree
from pawl.evals.scaffold import FILE, Mode, ScaffoldConfig
from pawl.nodes.decision import Lever, Operator
from pawl.nodes.editor_typed import TypedEditor
from pawl.nodes.evidence import RoundEvidence, RoundRecord
from pawl.nodes.feedback_measured import MeasuredFeedback

from .feedback_fixtures import METRIC, Choices, evidence

OPTIONS = ("a", "b", "c")
Policy = dict[str, dict[str, float]]


def skill(choices: Choices) -> float | None:
    """Two pairs are always refused; every field counts a little."""
    if (choices["f0"], choices["f1"]) == ("a", "b") or (choices["f4"], choices["f5"]) == ("c", "c"):
        return None
    return 0.2 + sum(0.1 * OPTIONS.index(option) for option in choices.values())


def sample(policy: Policy, config: ScaffoldConfig, item: str, seed: int) -> Trajectory:
    rng = random.Random(seed)
    drawn: list[tuple[float, Choices]] = []
    steps: list[ModelCall] = []
    for _ in range(config.samples):
        chosen: Choices = {}
        for field, logits in policy.items():
            left = [
                one for one in OPTIONS if not any(p.items() <= {**chosen, field: one}.items() for p in config.pruned)
            ]
            weights = [math.exp(logits[one] / config.temperature) for one in left]
            chosen[field] = rng.choices(left, weights)[0]
            share = weights[left.index(chosen[field])] / sum(weights)
            steps.append(
                ModelCall(
                    model="m",
                    prompt="",
                    completion=chosen[field],
                    token_ids=[1],
                    logprobs=[math.log(share)],
                    choices=left,
                )
            )
        value = skill(chosen)
        drawn.append((METRIC.worst if value is None else value, chosen))
    best, chosen = max(drawn, key=lambda one: one[0])
    valid = skill(chosen) is not None
    return Trajectory(
        version="v",
        item=item,
        seed=seed,
        steps=list(steps),
        output=json.dumps({"schedule": chosen}),
        stop=RolloutStop.ANSWERED,
        grade=Grade(value=best, valid=valid, reasons=[] if valid else ["shared-memory"]),
        usage=Usage(input_tokens=100 * len(steps), output_tokens=len(steps), verifications=1 + (config.samples > 1)),
    )


def trained(policy: Policy, round_: RoundEvidence) -> Policy:
    tilted = {field: dict(logits) for field, logits in policy.items()}
    for group in round_.groups().values():
        mean = fmean(map(round_.reward, group))
        for one in group:
            for field, option in json.loads(one.output or "")["schedule"].items():
                tilted[field][option] += 4 * (round_.reward(one) - mean) / len(round_.trajectories)
    return tilted


def true_mean(policy: Policy, config: ScaffoldConfig) -> float:
    return fmean(
        (sample(policy, config, "i", 10**6 + n).grade or Grade(value=0, valid=False)).value for n in range(150)
    )


async def campaign(seed: int, rounds: int) -> tuple[list[RoundRecord], float, float]:
    rng = random.Random(seed)
    policy = {f"f{n}": {option: rng.gauss(0, 0.6) for option in OPTIONS} for n in range(10)}
    config, history, earlier = ScaffoldConfig(mode=Mode.SCHEDULE), list[RoundRecord](), list[Trajectory]()
    first = now = true_mean(policy, config)
    for number in range(1, rounds + 1):
        made = [sample(policy, config, f"i{n % 8}", number * 1000 + n) for n in range(32)]
        given = evidence(made, round=number, scaffold=config, history=history, earlier=earlier)
        decision = await MeasuredFeedback().decide(given)
        if decision.lever is Lever.STOP:
            break
        changed, taught, operator, digest = config, policy, None, None
        if decision.lever is Lever.SCAFFOLD:
            scaffold = {FILE: config.model_dump_json().encode()}
            edit = await TypedEditor().edit(scaffold, decision, given, number)
            operator, digest = edit.operator, digest_tree(edit.apply(scaffold))
            if operator is not Operator.NONE:
                changed = ScaffoldConfig.model_validate_json(edit.files[FILE])
        else:
            taught = trained(policy, given)
        after = true_mean(taught, changed)
        record = RoundRecord(
            round=number,
            lever=decision.lever,
            diagnosis=decision.diagnosis,
            operator=operator,
            objective=decision.objective.kind if decision.objective else None,
            expected_gain=decision.expected_gain,
            before=now,
            after=after,
            promoted=after > now + 0.03,
            cost=decision.expected_cost,
            scaffold=digest,
        )
        history.append(record)
        earlier += made
        if record.promoted:
            config, policy, now = changed, taught, after
    return history, first, now


@pytest.mark.parametrize("seed", [0, 2, 5])
async def test_a_campaign_pulls_each_lever_and_gains_a_good_part_of_what_it_expects(seed: int) -> None:
    history, first, last = await campaign(seed, rounds=8)
    assert {record.lever for record in history} == {Lever.SCAFFOLD, Lever.WEIGHTS}
    assert any(record.operator is Operator.PRUNE and record.promoted for record in history)
    assert last > first + 0.4
    promoted = [record for record in history if record.promoted]
    assert len(promoted) >= len(history) / 2
    expected = sum(record.expected_gain for record in promoted)
    assert last - first > expected / 3


async def test_a_campaign_repeats_by_its_seed() -> None:
    assert await campaign(3, rounds=3) == await campaign(3, rounds=3)
