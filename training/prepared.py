# pyright: reportUnknownMemberType=false
"""What a pack needs besides itself, computed once a job: the frozen layers' output, and what doesn't change under it.

PPO's advantages are estimated here, from the values that the head gives at the job's start.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core import ConfigurationError
from .advantages import gae, whiten
from .critic import Critic
from .job import TrainJob
from .learner import Learner, Trunk
from .minibatches import Minibatch
from .objectives import PPO, Anchor, loss_of
from .trees import Decision, Pack


@dataclass(frozen=True)
class Targets:
    """What the value head learns at a pack's D decisions."""

    states: Tensor
    """(D, hidden size)"""
    before: Tensor
    """(D,) values at the job's start."""
    returns: Tensor
    """(D,)"""


@dataclass(frozen=True)
class Prepared:
    """A pack, ready for a step."""

    pack: Pack
    trunk: Trunk
    base: Tensor | None = None
    """(D,) log-probabilities under the base, where there is a KL penalty."""
    start: Tensor | None = None
    """(D,) log-probabilities under the policy that the job starts from, where the clip is anchored there."""
    targets: Targets | None = None


def prepare(learner: Learner, job: TrainJob, packs: Sequence[Pack]) -> list[Prepared]:
    """Packs of a minibatch, whose advantages are known; before the first step, where the clip is anchored there."""
    settings, made = loss_of(job.objective), list[Prepared]()
    for pack in packs:
        trunk = learner.trunk(pack)
        base = learner.base(pack, trunk).logprobs if settings.kl > 0 else None
        made.append(Prepared(pack, trunk, base, _start(learner, job, pack, trunk)))
    return made


def prepare_ppo(
    learner: Learner, job: TrainJob, settings: PPO, batches: Sequence[Minibatch]
) -> tuple[Critic, list[list[Prepared]]]:
    """Every minibatch's packs with advantages, and the head that they were estimated by; before the first step.

    Raises:
        ConfigurationError: a rollout's parts contradict each other, the head to go on from can't be used, or all
            advantages are 0.
    """
    packs = [[(pack, learner.trunk(pack)) for pack in batch.packs] for batch in batches]
    bases = [[learner.base(*pair) for pair in pairs] for pairs in packs]
    decisions = [decision for pairs in packs for pack, _ in pairs for decision in pack.decisions]
    states = torch.cat([base.states for each in bases for base in each])
    rollouts = _rollouts(decisions)
    if job.init_critic is not None:
        critic = Critic.load(job.init_critic, job, learner.hidden_size)
    else:
        critic = Critic.fresh(job, states, _discounted(decisions, rollouts, settings.gamma))
    with torch.no_grad():
        values = [float(value) for value in critic(states)]
    advantages, returns = [0.0] * len(decisions), [0.0] * len(decisions)
    for places in rollouts:
        found = gae(
            [decisions[place].reward for place in places],
            [values[place] for place in places],
            settings.gamma,
            settings.lam,
        )
        for place, advantage, value in zip(places, found.advantages, found.returns, strict=True):
            advantages[place], returns[place] = advantage, value
    if settings.whiten:
        advantages = whiten(advantages)
    if not any(advantages):
        raise ConfigurationError(
            f"All advantages of the {len(decisions)} decisions are 0: nothing to learn. "
            "Every rollout was worth what the value head expects; get rollouts whose rewards differ."
        )
    made: list[list[Prepared]] = []
    at = 0
    for pairs, outputs in zip(packs, bases, strict=True):
        made.append([])
        for (pack, trunk), base in zip(pairs, outputs, strict=True):
            here = slice(at, at := at + len(pack.decisions))
            changed = zip(pack.decisions, advantages[here], strict=True)
            rich = replace(pack, decisions=tuple(replace(each, advantage=value) for each, value in changed))
            targets = Targets(base.states, torch.tensor(values[here]), torch.tensor(returns[here]))
            kept = base.logprobs if settings.loss.kl > 0 else None
            made[-1].append(Prepared(rich, trunk, kept, _start(learner, job, pack, trunk), targets))
    return critic, made


def _start(learner: Learner, job: TrainJob, pack: Pack, trunk: Trunk) -> Tensor | None:
    if loss_of(job.objective).anchor is not Anchor.START:
        return None
    with torch.no_grad():
        return learner.decide(pack, trunk).logprobs


def _rollouts(decisions: Sequence[Decision]) -> list[list[int]]:
    """Places of each rollout's decisions, in the order that they were taken in."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for place, decision in enumerate(decisions):
        found[decision.rollout].append(place)
    for name, places in found.items():
        places.sort(key=lambda place: decisions[place].order)
        orders = {decisions[place].order for place in places}
        if len(orders) != len(places):
            raise ConfigurationError(
                f"Rollout {name[:12]!r} has two decisions at one place: its datums share a part. "
                "Expected parts 0, 1, ... of one rollout, or a rollout_id for each."
            )
    return list(found.values())


def _discounted(decisions: Sequence[Decision], rollouts: Sequence[Sequence[int]], gamma: float) -> Tensor:
    """(D,) discounted sums of the rewards from each decision on."""
    returns = [0.0] * len(decisions)
    for places in rollouts:
        ahead = 0.0
        for place in reversed(places):
            ahead = decisions[place].reward + gamma * ahead
            returns[place] = ahead
    return torch.tensor(returns, dtype=torch.float64)
