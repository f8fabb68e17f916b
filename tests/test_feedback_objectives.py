"""What the rule chooses for a round, and what may be argued for, gives a training job something to learn from."""

import random

import pytest

from pawl.core import Trajectory
from pawl.nodes.evidence import RoundEvidence
from pawl.nodes.measurements import signals_of
from pawl.training import Objective
from pawl.training.dataset import make_dataset
from pawl.training.selector import options, select, settings

from .feedback_fixtures import METRIC, evidence, trajectory

ORDINAL = METRIC.model_copy(update={"ordinal": True})


def readable(one: Trajectory, details: dict[str, object]) -> Trajectory:
    """With the tokens of its prompts, as a server returns them, and details of its grade."""
    assert one.grade is not None
    steps = [step.model_copy(update={"prompt_token_ids": [7, 8]}) for step in one.steps]
    return one.model_copy(update={"steps": steps, "grade": one.grade.model_copy(update={"details": details})})


def drawn(seed: int) -> RoundEvidence:
    """A round of any shape: groups of one to eight, rewards of a few kinds, some rollouts without log-probabilities."""
    rng = random.Random(seed)
    size, rare, stepped = rng.randint(1, 8), rng.random(), rng.random() < 0.3
    made: list[Trajectory] = []
    for item in range(rng.randint(1, 12)):
        for attempt in range(size):
            value = rng.choice([None, round(rng.uniform(0, 2), 2), 1.0]) if rng.random() < rare else None
            plain = trajectory(f"i{item}", attempt, value=value, choices={"a": "a", "b": "b", "c": "c"})
            own = {"step_rewards": [rng.choice([0.1, 0.2]) for _ in plain.steps]} if stepped else {}
            if rng.random() < 0.1:
                plain = plain.model_copy(
                    update={"steps": [step.model_copy(update={"logprobs": []}) for step in plain.steps]}
                )
            made.append(readable(plain, own))
    return evidence(made, metric=ORDINAL if rng.random() < 0.1 else METRIC, guarded=rng.randint(0, 1))


def learnable(round_: RoundEvidence, objective: Objective) -> bool:
    made = make_dataset(round_.trajectories, settings(objective, signals_of(round_)), round_.metric.signed)
    return bool(made.datums)


@pytest.mark.parametrize("block", range(5))
def test_what_is_chosen_or_may_be_argued_for_makes_datums(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        round_ = drawn(seed)
        found = select(signals_of(round_)).objective
        assert found is None or learnable(round_, found.kind), seed
        for objective, lacking in options(signals_of(round_)):
            assert lacking or learnable(round_, objective), (seed, objective)


def test_rounds_of_any_shape_come_to_each_of_the_objectives_but_ppo_which_wants_a_thousand_steps() -> None:
    chosen = {found.kind for seed in range(200) if (found := select(signals_of(drawn(seed))).objective) is not None}
    assert chosen == set(Objective) - {Objective.PPO}
