"""From graded rollouts to the datums of a job, for any of the six objectives; what is left out is counted.

    dataset = make_dataset(trajectories, GroupRelative(), metric.signed, ages={live: 0, older: 1}, staleness=1)
    backend.submit(job, dataset.datums)
    record(dataset.counts)                                   # so that nothing is dropped in silence

Rollouts on one item by one policy are a group. What can't be learned from is dropped by the rules of `Drop`, a single
model call by those of `datums.Refusal`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue

from ..core import ModelCall, Trajectory
from .advantages import advantages_of, overlong_penalty
from .advantages.checks import is_usable
from .datums import Datum, Refusal, to_datums
from .objectives import PPO, BestOfN, Entropic, GroupRelative, PolicyGradient, Preference, Reinforce, Supervised
from .supervised.select import best_datums, pair_datums

STEP_REWARDS = "step_rewards"
"""Key of `Grade.details`: what each step of the rollout brought, in the metric's unit, one number a step. They tell PPO
when the grade was earned; what they leave of it, or exceed it by, comes at the end."""

TIE = 1e-6
"""Rewards of all rollouts within this are equal, for objectives that compare across groups."""


class Drop(StrEnum):
    """Why a rollout is not learned from."""

    UNGRADED = "ungraded"
    """It has no grade."""
    NOT_FINITE = "reward_not_finite"
    """Its grade, or a reward on the way, is NaN, infinite, or too large to be squared."""
    BAD_STEP_REWARDS = "step_rewards_misshapen"
    """The rewards on the way are not one number a step."""
    STALE = "stale"
    """Its policy is further back than the allowed staleness, or was never live."""
    REPEATED = "repeated"
    """The same attempt is there already."""
    NO_DATUMS = "nothing_to_train_on"
    """None of its model calls gives a datum; the refusals say why. Its reward is no baseline for others either."""
    LONE = "lone"
    """Its group has no other rollout."""
    TIED = "tied"
    """All rewards that it is compared with are equal, within the objective's resolution."""
    NOT_CHOSEN = "not_chosen"
    """A supervised objective took others of its group."""


@dataclass(frozen=True)
class Dataset:
    """What a job learns from, and what was left out."""

    datums: list[Datum]
    rollouts: int
    """Rollouts that were looked at."""
    dropped: Mapping[Drop, int]
    """Rollouts by the rule that dropped them."""
    refused: Mapping[Refusal, int]
    """Model calls, of rollouts that were not dropped before, by the rule that refused them."""

    @property
    def used(self) -> int:
        """Rollouts that are learned from."""
        return self.rollouts - sum(self.dropped.values())

    @property
    def counts(self) -> dict[str, JsonValue]:
        """Everything that was counted, as plain data."""
        return {
            "rollouts": self.rollouts,
            "used": self.used,
            "datums": len(self.datums),
            "groups": len({datum.group_id for datum in self.datums}),
            "dropped": {rule.value: count for rule, count in sorted(self.dropped.items())},
            "refused_calls": {rule.value: count for rule, count in sorted(self.refused.items())},
        }

    @property
    def summary(self) -> str:
        """The same in a sentence."""
        said = [f"{count} {rule}" for rule, count in sorted(self.dropped.items())]
        calls = [f"{count} {rule}" for rule, count in sorted(self.refused.items())]
        text = f"{self.used} of {self.rollouts} rollouts used"
        text += f"; dropped: {', '.join(said)}" if said else ""
        return text + (f"; model calls refused: {', '.join(calls)}" if calls else "")


@dataclass(frozen=True)
class _Rollout:
    """One that may be learned from."""

    reward: float
    datums: list[Datum]
    stepwise: bool
    """Whether it has rewards on the way."""


def make_dataset(
    trajectories: Sequence[Trajectory],
    objective: PolicyGradient | Supervised,
    signed: Callable[[float], float],
    *,
    ages: Mapping[str, int] | None = None,
    staleness: int = 0,
    end_token: int | None = None,
) -> Dataset:
    """Turn graded rollouts into datums.

    Args:
        trajectories: in any order; equal sets in equal order give equal datums.
        objective: what the job will train for.
        signed: from a grade to a reward, of which more is better; linear (the metric's `signed`).
        ages: version id to how many promoted adapters back its policy is, 0 being the one that trains; a version that
            is not there is stale. None takes all to be of the policy that trains.
        staleness: greatest age that is learned from.
        end_token: see `to_datums`.
    """
    dropped, refused = Counter[Drop](), Counter[Refusal]()
    supervised = objective.kind.supervised
    groups: dict[str, list[_Rollout]] = {}
    seen: set[str] = set()
    for trajectory in trajectories:
        age = 0 if ages is None else ages.get(trajectory.version)
        if age is None or age > staleness:
            dropped[Drop.STALE] += 1
            continue
        if trajectory.id in seen:
            dropped[Drop.REPEATED] += 1
            continue
        seen.add(trajectory.id)
        group = trajectory.item if age == 0 else f"{trajectory.item}@{age}"  # only one policy's are compared
        read = _read(trajectory, objective, signed, group, refused, end_token)
        if isinstance(read, Drop):
            dropped[read] += 1
            continue
        if not read.datums:
            dropped[Drop.NO_DATUMS] += 1
        if read.datums or supervised:  # one that can't be imitated can still be what the others have to beat
            groups.setdefault(group, []).append(read)
    members = list(groups.values())
    if isinstance(objective, BestOfN | Preference):
        datums = [datum for group in members for datum in _chosen(group, objective, dropped)]
    elif isinstance(objective, PPO):
        datums = _rewarded(members, dropped)
    else:
        datums = _advantaged(members, objective, dropped)
    return Dataset(datums, len(trajectories), dict(+dropped), dict(+refused))


def _read(
    trajectory: Trajectory,
    objective: PolicyGradient | Supervised,
    signed: Callable[[float], float],
    group: str,
    refused: Counter[Refusal],
    end_token: int | None,
) -> _Rollout | Drop:
    grade = trajectory.grade
    if grade is None:
        return Drop.UNGRADED
    if not is_usable(grade.value):
        return Drop.NOT_FINITE
    reward, steps = signed(grade.value), _step_rewards(grade.details.get(STEP_REWARDS), len(trajectory.steps))
    if isinstance(steps, Drop):
        return steps
    stepwise = isinstance(objective, PPO) and steps is not None
    rewards = None
    if isinstance(objective, PPO) and trajectory.steps:
        rewards = [signed(each) for each in steps] if steps is not None else [0.0] * len(trajectory.steps)
        rewards[-1] += reward - sum(rewards)
    if isinstance(objective, GroupRelative) and objective.overlong is not None:
        reward += overlong_penalty(_length(trajectory), objective.overlong)
    datums = to_datums(trajectory, 1.0, group, refused, end_token, rewards)
    return _Rollout(reward, datums, stepwise)


def _step_rewards(found: JsonValue, steps: int) -> list[float] | Drop | None:
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != steps:
        return Drop.BAD_STEP_REWARDS
    values: list[float] = []
    for value in found:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return Drop.BAD_STEP_REWARDS
        values.append(float(value))
    return values if all(map(is_usable, values)) else Drop.NOT_FINITE


def _length(trajectory: Trajectory) -> int:
    return sum(len(step.token_ids) for step in trajectory.steps if isinstance(step, ModelCall))


def _advantaged(
    groups: Sequence[Sequence[_Rollout]], objective: GroupRelative | Entropic | Reinforce, dropped: Counter[Drop]
) -> list[Datum]:
    """The datums of the groups whose rewards differ, each with its rollout's advantage; one may be 0."""
    together = isinstance(objective, Reinforce)
    if not together:
        dropped[Drop.LONE] += sum(len(group) == 1 for group in groups)
        groups = [group for group in groups if len(group) > 1]
    values = advantages_of({place: [each.reward for each in group] for place, group in enumerate(groups)}, objective)
    silent = not any(any(group) for group in values.values())
    datums: list[Datum] = []
    for place, group in enumerate(groups):
        if silent or not (together or any(values[place])):
            dropped[Drop.TIED] += len(group)
            continue
        for rollout, advantage in zip(group, values[place], strict=True):
            datums += [_scaled(datum, advantage) for datum in rollout.datums]
    return datums


def _rewarded(groups: Sequence[Sequence[_Rollout]], dropped: Counter[Drop]) -> list[Datum]:
    """The datums of all rollouts with their rewards; their advantages are estimated in the job."""
    rollouts = [each for group in groups for each in group]
    rewards = [each.reward for each in rollouts]
    if rollouts and max(rewards) - min(rewards) <= TIE and not any(each.stepwise for each in rollouts):
        dropped[Drop.TIED] += len(rollouts)
        return []
    return [_scaled(datum, 0.0) for each in rollouts for datum in each.datums]


def _chosen(group: Sequence[_Rollout], objective: BestOfN | Preference, dropped: Counter[Drop]) -> list[Datum]:
    """The datums of the rollouts that a supervised objective takes of a group."""
    rewards, parts = [each.reward for each in group], [each.datums for each in group]
    datums = (
        best_datums(rewards, parts, objective)
        if isinstance(objective, BestOfN)
        else pair_datums(rewards, parts, objective)
    )
    left = sum(bool(part) for part in parts) - len({datum.rollout_id for datum in datums})
    resolution = objective.resolution if isinstance(objective, Preference) else 0.0
    rule = Drop.LONE if len(group) == 1 else Drop.NOT_CHOSEN
    if len(group) > 1 and max(rewards) - min(rewards) <= resolution:
        rule = Drop.TIED
    dropped[rule] += left
    return datums


def _scaled(datum: Datum, advantage: float) -> Datum:
    return datum.model_copy(update={"advantages": [advantage * chosen for chosen in datum.mask]})
