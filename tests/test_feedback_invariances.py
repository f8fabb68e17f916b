"""A decision doesn't depend on what doesn't matter."""

import asyncio
import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pawl.core import Trajectory, Usage
from pawl.evals.task import Direction, Metric
from pawl.nodes.decision import Decision, Lever, Operator
from pawl.nodes.evidence import RoundEvidence
from pawl.nodes.feedback_measured import MeasuredFeedback
from pawl.nodes.prospects import Rule
from pawl.training import GroupRelative

from .feedback_fixtures import METRIC, dense, evidence, pulled, refused_at_limits, rollouts, settled

ROUNDS = {
    "refused": rollouts(refused_at_limits, seed=1),
    "dense": rollouts(dense, seed=1),
    "sure": rollouts(dense, entropy=0.02, seed=1),
    "settled": rollouts(settled, seed=1),
}
rounds = st.sampled_from(sorted(ROUNDS))


def decide(round_: RoundEvidence) -> Decision:
    return asyncio.run(MeasuredFeedback().decide(round_))


def regraded(trajectories: list[Trajectory], scale: float, shift: float) -> list[Trajectory]:
    made: list[Trajectory] = []
    for one in trajectories:
        assert one.grade is not None
        grade = one.grade.model_copy(update={"value": one.grade.value * scale + shift})
        made.append(one.model_copy(update={"grade": grade}))
    return made


def remetric(scale: float, shift: float, direction: Direction = Direction.MAXIMISE) -> Metric:
    return METRIC.model_copy(
        update={
            "worst": METRIC.worst * scale + shift,
            "best": METRIC.best * scale + shift,
            "margin": METRIC.margin * abs(scale),
            "direction": direction,
        }
    )


@settings(max_examples=20, deadline=None)
@given(name=rounds, seed=st.integers(0, 10_000))
def test_the_order_of_trajectories_does_not_matter(name: str, seed: int) -> None:
    shuffled = list(ROUNDS[name])
    random.Random(seed).shuffle(shuffled)
    payloads = evidence(ROUNDS[name]).payloads
    assert decide(evidence(shuffled, payloads=payloads)) == decide(evidence(ROUNDS[name]))


@settings(max_examples=15, deadline=None)
@given(name=rounds, scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_unit_and_origin_of_the_metric_do_not_matter(name: str, scale: float, shift: float) -> None:
    before = decide(evidence(ROUNDS[name]))
    after = decide(evidence(regraded(ROUNDS[name], scale, shift), metric=remetric(scale, shift)))
    assert (after.lever, after.diagnosis) == (before.lever, before.diagnosis)
    assert (after.objective and after.objective.kind) == (before.objective and before.objective.kind)
    if isinstance(before.objective, GroupRelative):
        assert isinstance(after.objective, GroupRelative)
        assert math.isclose(after.objective.resolution, scale * before.objective.resolution)
    assert abs(after.expected_gain - scale * before.expected_gain) <= 1e-6 * max(1.0, scale)


@settings(max_examples=10, deadline=None)
@given(name=rounds)
def test_a_metric_that_is_minimised_decides_like_its_mirror_image(name: str) -> None:
    mirrored = evidence(regraded(ROUNDS[name], -1.0, 0.0), metric=remetric(-1.0, 0.0, Direction.MINIMISE))
    before, after = decide(evidence(ROUNDS[name])), decide(mirrored)
    assert (after.lever, after.diagnosis, after.evidence) == (before.lever, before.diagnosis, before.evidence)


@settings(max_examples=15, deadline=None)
@given(name=rounds, seconds=st.floats(0.0, 1e6))
def test_time_does_not_matter(name: str, seconds: float) -> None:
    timed = [
        one.model_copy(update={"usage": one.usage.model_copy(update={"cpu_seconds": seconds}), "trace_id": "f" * 32})
        for one in ROUNDS[name]
    ]
    assert decide(evidence(timed)) == decide(evidence(ROUNDS[name]))


@settings(max_examples=15, deadline=None)
@given(name=rounds, billed=st.integers(0, 10**9))
def test_what_past_rounds_were_billed_does_not_matter(name: str, billed: int) -> None:
    past = [pulled(n, Lever.SCAFFOLD, operator=Operator.PRUNE, promoted=True, brought=0.2) for n in range(2)]
    dear = [one.model_copy(update={"cost": Usage(input_tokens=billed, verifications=billed)}) for one in past]
    here = evidence(ROUNDS[name], round=3, history=past)
    assert decide(here.model_copy(update={"history": dear})) == decide(here)


@settings(max_examples=15, deadline=None)
@given(name=rounds, failures=st.integers(1, 5))
def test_pulling_a_lever_in_vain_never_raises_what_is_expected(name: str, failures: int) -> None:
    operators = [Operator.PRUNE, Operator.SAMPLES, Operator.REPAIRS]
    base = [pulled(n, Lever.SCAFFOLD, operator=operators[n % 3], promoted=True, brought=0.2) for n in range(3)]
    base += [pulled(3, Lever.WEIGHTS, promoted=True, brought=0.2)]
    disappointed = [
        pulled(4 + n, lever, operator=operators[n % 3] if lever is Lever.SCAFFOLD else None)
        for n in range(failures)
        for lever in (Lever.SCAFFOLD, Lever.WEIGHTS)
    ]
    relaxed = MeasuredFeedback(Rule(patience=100))
    before = asyncio.run(relaxed.decide(evidence(ROUNDS[name], round=4, history=base)))
    after = asyncio.run(relaxed.decide(evidence(ROUNDS[name], round=20, history=[*base, *disappointed])))
    if (after.lever, after.diagnosis) == (before.lever, before.diagnosis):
        assert after.expected_gain <= before.expected_gain
