"""The advantages of every group of a job under one objective."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import TypeAdapter

from ...core import ConfigurationError
from ..objectives import Entropic, GroupRelative, Objective, ObjectiveSettings, PolicyGradient, Reinforce, Supervised
from .checks import check_finite
from .entropic import entropic
from .group import group_relative
from .reinforce import reinforce

Key = TypeVar("Key")
_SETTINGS: TypeAdapter[PolicyGradient | Supervised] = TypeAdapter(ObjectiveSettings)


def advantages_of(
    groups: Mapping[Key, Sequence[float]], objective: Objective | PolicyGradient | Supervised
) -> dict[Key, list[float]]:
    """One advantage a reward, group by group.

    Args:
        groups: group to the rewards of its rollouts.
        objective: settings, or a name that stands for its defaults.

    Raises:
        ConfigurationError: a reward is NaN or infinite, or the objective makes no advantages of rewards alone.
    """
    settings = _SETTINGS.validate_python(objective)
    for rewards in groups.values():
        check_finite(rewards)
    match settings:
        case GroupRelative():
            return {
                key: group_relative(rewards, settings.scale, settings.resolution, settings.baseline)
                for key, rewards in groups.items()
            }
        case Entropic():
            return {key: entropic(rewards, settings) for key, rewards in groups.items()}
        case Reinforce():
            every = iter(reinforce([reward for rewards in groups.values() for reward in rewards], settings.whiten))
            return {key: [next(every) for _ in rewards] for key, rewards in groups.items()}
        case _:
            raise ConfigurationError(
                f"The objective {settings.kind} makes no advantages of rewards alone: PPO estimates them inside its "
                "job, from the datums' `rewards`; a supervised one chooses rollouts (training.supervised.select)."
            )
