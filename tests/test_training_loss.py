"""The policy-gradient loss: its formula, and how tokens become one number however they are packed."""

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from pawl.training import Aggregation, Anchor, Datum, LossSettings, group_relative
from pawl.training.aggregation import aggregate
from pawl.training.learner import Learner
from pawl.training.loss import policy_loss
from pawl.training.minibatches import Minibatch, minibatches
from pawl.training.prepared import prepare
from pawl.training.step import take_step
from pawl.training.trees import Decision

from .training_fixtures import make_datum, make_job, some_datums, torch_settings, trainee_dir

__all__ = ["torch_settings", "trainee_dir"]


def uneven() -> list[Datum]:
    """Rollouts of one to five decisions; one of them in two parts, one with a weight, one with nothing to say."""
    draw = Random(5)
    datums: list[Datum] = []
    for place in range(6):
        length = 1 + place % 5
        tokens = [9, 8, *(draw.randrange(40, 60) for _ in range(length))]
        chosen = range(2, 2 + length)
        datum = make_datum(tokens, chosen, advantage=(-1.0) ** place * (0.5 + place), logprob=-4.0)
        datums.append(datum.model_copy(update={"rollout_id": f"r{place}", "weight": 2.0 if place == 1 else 1.0}))
    second = make_datum([9, 8, 7, 41, 42], [3, 4], advantage=-2.5, logprob=-4.0)
    silent = make_datum([9, 8, 50, 51], [2, 3], advantage=0.0)
    return [*datums, second.model_copy(update={"rollout_id": "r5", "part": 1}), silent]


def reference(datums: list[Datum], losses: list[np.ndarray], settings: LossSettings) -> float:
    """The three papers' sums, sequence by sequence, in float64."""
    names = [datum.rollout_id or f"#{place}" for place, datum in enumerate(datums)]
    sequences = {name: [place for place, each in enumerate(names) if each == name] for name in names}
    weight = {name: datums[places[0]].weight for name, places in sequences.items()}
    tokens = {name: np.concatenate([losses[place] for place in places]) for name, places in sequences.items()}
    sums = {name: weight[name] * values.sum() for name, values in tokens.items()}
    match settings.aggregation:
        case Aggregation.TOKEN:
            return sum(sums.values()) / sum(weight[name] * len(values) for name, values in tokens.items())
        case Aggregation.SEQUENCE:
            means = [weight[name] * values.mean() for name, values in tokens.items()]
            return sum(means) / sum(weight.values())
        case Aggregation.CONSTANT:
            return sum(sums.values()) / (sum(weight.values()) * settings.constant_length)


def token_losses(datum: Datum, logprobs: np.ndarray, settings: LossSettings) -> np.ndarray:
    mask = np.asarray(datum.mask, dtype=bool)
    behaviour, advantage = np.asarray(datum.behaviour_logprobs)[mask], np.asarray(datum.advantages)[mask]
    ratio = np.exp(logprobs - behaviour)
    kept = np.clip(ratio, 1 - settings.clip_low, 1 + settings.clip_high)
    surrogate = np.minimum(ratio * advantage, kept * advantage)
    return -np.where(advantage < 0, np.maximum(surrogate, settings.truncation * advantage), surrogate)


@pytest.mark.usefixtures("torch_settings")
@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_a_step_sums_tokens_up_as_the_papers_do_however_they_are_packed(
    aggregation: Aggregation, trainee_dir: Path
) -> None:
    from .test_training_learner import plainly

    datums = uneven()
    losses: list[float] = []
    gradients: list[torch.Tensor] = []
    settings = LossSettings(clip_low=0.2, clip_high=0.28, aggregation=aggregation, constant_length=50)
    for size in (4, 512):
        job = make_job(
            trainee_dir, loss=settings.model_dump(), minibatch=len(datums), pack_tokens=size, max_grad_norm=1e9
        )
        learner = Learner(job)
        [batch] = minibatches(job, datums)
        assert (len(batch.packs) > 3) is (size == 4)
        before = [token_losses(datum, np.asarray(plainly(learner.model, datum)), settings) for datum in datums]
        recorded = Recorder(learner)
        metrics = take_step(learner, None, recorded, job.objective, batch, prepare(learner, job, batch.packs))  # type: ignore[arg-type]
        losses.append(metrics["loss"])
        gradients.append(recorded.gradient)
        assert metrics["loss"] == pytest.approx(reference(datums, before, settings), rel=1e-4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5 * float(gradients[0].abs().max()))


class Recorder:
    """An optimiser that keeps the gradient and takes no step."""

    def __init__(self, learner: Learner) -> None:
        self.learner, self.gradient = learner, torch.zeros(0)

    def step(self) -> float:
        found = [master.grad for master in self.learner.masters.values()]
        self.gradient = torch.cat([each.flatten() for each in found if each is not None])
        return float(self.gradient.norm())


def test_shares_and_divisor_by_hand() -> None:
    datums = [make_datum([1, 2, 3], [1, 2]), make_datum([1, 4], [1])]
    assert aggregate(datums, LossSettings()) == ([1.0, 1.0], 3.0)
    assert aggregate(datums, LossSettings(aggregation=Aggregation.SEQUENCE)) == ([0.5, 1.0], 2.0)
    constant = LossSettings(aggregation=Aggregation.CONSTANT, constant_length=10)
    assert aggregate(datums, constant) == ([1.0, 1.0], 20.0)


def test_the_parts_of_a_rollout_stay_in_one_step(trainee_dir: Path) -> None:
    parts = [
        each.model_copy(update={"rollout_id": f"r{place // 3}", "part": place % 3})
        for place, each in enumerate(some_datums())
    ]
    batches: list[Minibatch] = minibatches(make_job(trainee_dir, minibatch=4), parts)
    assert sorted(batch.datums for batch in batches) == [6, 6]  # never more steps than datums / minibatch
    for batch in batches:
        steps = [decision.rollout for each in batch.packs for decision in each.decisions]
        assert all(steps.count(name) == 9 for name in set(steps))


def test_a_rollout_at_the_baseline_costs_no_pass_but_counts_in_the_mean(trainee_dir: Path) -> None:
    datums = [
        make_datum([3, 4, label], [2], allowed=range(40, 44), advantage=advantage)
        for label, advantage in zip((40, 41, 42), group_relative([0.0, 0.5, 1.0]), strict=True)
    ]
    [batch] = minibatches(make_job(trainee_dir), datums)
    assert (batch.datums, batch.divisor, batch.weight) == (3, 3.0, 2.0)


def decision(behaviour: float, advantage: float) -> Decision:
    return Decision(0, 0, behaviour, advantage, 1.0, 1.0, None)


@pytest.mark.parametrize("gap", [-1.0, 0.0, 0.5, 3.0])
@pytest.mark.parametrize("move", [-0.6, 0.0, 0.15, 0.6])
@pytest.mark.parametrize("advantage", [-1.3, 0.7])
def test_anchored_at_the_start_the_weight_of_other_policies_is_truncated(
    gap: float, move: float, advantage: float
) -> None:
    settings = LossSettings(clip_low=0.2, clip_high=0.28, truncation=2.0, anchor=Anchor.START)
    logprob = torch.tensor([-3.0 + gap + move], requires_grad=True)
    start = torch.tensor([-3.0 + gap])
    loss = policy_loss(logprob, [decision(-3.0, advantage)], settings, start=start)
    ratio, weight = math.exp(move), min(math.exp(gap), 2.0)
    surrogate = min(ratio * advantage, min(max(ratio, 0.8), 1.28) * advantage)
    assert float(loss.total.detach()) == pytest.approx(-weight * surrogate, rel=1e-5)
    assert loss.sums["truncated"] == float(gap > math.log(2))
    loss.total.backward()
    clipped = move > math.log(1.28) if advantage > 0 else move < math.log(0.8)
    assert logprob.grad is not None
    assert float(logprob.grad) == pytest.approx(0.0 if clipped else -weight * ratio * advantage, rel=1e-5)


def test_the_clip_above_may_be_wider_than_below() -> None:
    settings = LossSettings(clip_low=0.2, clip_high=0.28)
    up = policy_loss(torch.tensor([math.log(1.26)]), [decision(0.0, 1.0)], settings)
    down = policy_loss(torch.tensor([math.log(0.74)]), [decision(0.0, -1.0)], settings)
    assert float(up.total) == pytest.approx(-1.26)
    assert float(down.total) == pytest.approx(0.8)
    assert (up.sums["clipped"], down.sums["clipped"]) == (0.0, 1.0)
