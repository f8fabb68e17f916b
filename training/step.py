# pyright: reportUnknownMemberType=false
"""One optimiser step of a policy gradient over one minibatch, and of the value head beside it."""

from collections import defaultdict
from collections.abc import Sequence

import torch

from .critic import Critic, value_loss
from .learner import Learner
from .loss import policy_loss
from .minibatches import Minibatch
from .objectives import PPO, PolicyGradient
from .optimiser import Optimiser
from .prepared import Prepared
from .ranks import ALONE, Ranks


def take_step(
    learner: Learner,
    critic: Critic | None,
    optimiser: Optimiser,
    objective: PolicyGradient,
    batch: Minibatch,
    prepared: Sequence[Prepared],
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Learn from a minibatch once, and return the metrics: means over its decisions by their weight in the loss.

    Args:
        learner: the policy.
        critic: the value head, where the objective has one.
        optimiser: of both.
        objective: what is learned.
        batch: the whole minibatch.
        prepared: its packs, as far as they are this rank's.
        ranks: who has the others.

    Raises:
        ConfigurationError: a gradient is not finite.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    weight, total = batch.weight, 0.0
    for each in prepared:
        decided = learner.decide(each.pack, each.trunk)
        loss = policy_loss(decided.logprobs, each.pack.decisions, objective.loss, each.base, each.start)
        (loss.total / batch.divisor).backward()
        total += float(loss.total.detach())
        weights = torch.tensor([decision.weight for decision in each.pack.decisions])
        for name, value in {**loss.sums, "entropy": float((decided.entropies * weights).sum())}.items():
            sums[name] += value
    total = ranks.add({"loss": total})["loss"]
    metrics = {name: value / weight for name, value in ranks.add(sums).items()} | {"loss": total / batch.divisor}
    if critic is not None and isinstance(objective, PPO):
        metrics |= _value_gradients(critic, objective, prepared, ranks)
    learner.collect_gradients()
    ranks.add_gradients([*learner.masters.values(), *(critic.parameters.values() if critic is not None else ())])
    metrics["grad_norm"] = optimiser.step()
    learner.publish()
    return metrics


def _value_gradients(critic: Critic, objective: PPO, prepared: Sequence[Prepared], ranks: Ranks) -> dict[str, float]:
    """Gradients of the head's loss, a plain mean over the decisions; loss and error are those before the step."""
    targets = [each.targets for each in prepared if each.targets is not None]
    count = ranks.add({"decisions": float(sum(len(each.returns) for each in targets))})["decisions"]
    sums = {"value_loss": 0.0, "squares": 0.0}
    for each in targets:
        values = critic(each.states)
        loss = value_loss(values, each.before, each.returns, objective.value_clip).sum() / count
        (objective.value_coefficient * loss).backward()
        sums["value_loss"] += float(loss.detach())
        sums["squares"] += float(((values.detach() - each.returns) ** 2).sum())
    sums = ranks.add(sums)
    return {"value_loss": sums["value_loss"], "value_error": (sums["squares"] / count) ** 0.5}
