"""From a group's rewards to what is learned from it: the rollouts that are kept, or the pairs that are compared.

    best([0.1, 0.9, 0.4], BestOfN(keep=2))                   # [1, 2]
    ranked_pairs([0.1, 0.9, 0.4], Preference(pairs=2))       # [Pair(1, 0), Pair(1, 2)]
    datums = best_datums(rewards, datums_of_rollouts, BestOfN())
    datums = pair_datums(rewards, datums_of_rollouts, Preference())

A group is what was compared: rollouts on the same item. More reward is better. Only the order of the rewards counts,
apart from a threshold and a resolution. The two last functions give what a job's `rollouts/` holds: a datum that is
imitated has advantage 1; a pair is the datums of one `group_id`, those of its better rollout with advantage 1 and
those of its worse one with -1.
"""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import NamedTuple

from ...core import ConfigurationError
from ..datums import Datum
from ..objectives import BestOfN, Preference

_BEST = BestOfN()
_PREFERENCE = Preference()


class Pair(NamedTuple):
    """Two rollouts of a group, by their place in it."""

    better: int
    worse: int


def best(rewards: Sequence[float], settings: BestOfN = _BEST, usable: Iterable[int] | None = None) -> list[int]:
    """The places of the rollouts that are imitated, best first; of equal ones the earlier comes first.

    At most `settings.keep`. One is taken only if its reward is at least the threshold or, where there is none, above
    the group's worst: a group in which all are alike teaches nothing.

    Args:
        rewards: of one group, in any unit.
        settings: how many, and from which reward on.
        usable: places that may be taken; the others still count as what a rollout must beat. By default all.

    Raises:
        ConfigurationError: a reward is NaN or infinite.
    """
    _check(rewards)
    if not rewards:
        return []
    worst = min(rewards)
    good = [
        place
        for place in (range(len(rewards)) if usable is None else sorted(set(usable)))
        if (rewards[place] > worst if settings.threshold is None else rewards[place] >= settings.threshold)
    ]
    return sorted(good, key=lambda place: (-rewards[place], place))[: settings.keep]


def ranked_pairs(
    rewards: Sequence[float], settings: Preference = _PREFERENCE, usable: Iterable[int] | None = None
) -> list[Pair]:
    """The pairs of a better and a worse rollout, the widest apart in rank first.

    Two rewards make a pair if they differ by more than the resolution. A rollout's rank is how many of its group it
    beats so, less how many beat it; since nearness isn't transitive, this needs no classes of ties. Of pairs equally
    wide apart the one with the higher winner comes first, then the earlier. At most `settings.pairs`.

    Args:
        rewards: of one group, in any unit.
        settings: how many pairs, and what is a tie.
        usable: places that may be taken; the others still count in the ranks. By default all.

    Raises:
        ConfigurationError: a reward is NaN or infinite.
    """
    _check(rewards)
    places = range(len(rewards)) if usable is None else sorted(set(usable))
    ranks = [sum(_sign(mine - other, settings.resolution) for other in rewards) for mine in rewards]
    pairs = [
        Pair(better, worse)
        for better in places
        for worse in places
        if rewards[better] - rewards[worse] > settings.resolution
    ]
    pairs.sort(key=lambda pair: (ranks[pair.worse] - ranks[pair.better], -ranks[pair.better], pair))
    return pairs[: settings.pairs]


def best_datums(rewards: Sequence[float], datums: Sequence[Sequence[Datum]], settings: BestOfN = _BEST) -> list[Datum]:
    """The datums that a group adds to a job that imitates.

    Args:
        rewards: of one group.
        datums: of each of its rollouts; a rollout without any can't be imitated, and the next best is.
        settings: how many, and from which reward on.

    Raises:
        ConfigurationError: a reward is NaN or infinite, or there are not as many rollouts as rewards.
    """
    usable = _usable(rewards, datums)
    return [_marked(datum, 1.0) for place in best(rewards, settings, usable) for datum in datums[place]]


def pair_datums(
    rewards: Sequence[float], datums: Sequence[Sequence[Datum]], settings: Preference = _PREFERENCE
) -> list[Datum]:
    """The datums that a group adds to a job that compares; one of several pairs is there once for each.

    Args:
        rewards: of one group.
        datums: of each of its rollouts; a rollout without any makes no pair.
        settings: how many pairs, and what is a tie.

    Raises:
        ConfigurationError: a reward is NaN or infinite, or there are not as many rollouts as rewards.
    """
    usable = _usable(rewards, datums)
    found: list[Datum] = []
    for better, worse in ranked_pairs(rewards, settings, usable):
        for place, side in ((better, 1.0), (worse, -1.0)):
            found += [_marked(datum, side, f"{datum.group_id}#{better}>{worse}") for datum in datums[place]]
    return found


def _usable(rewards: Sequence[float], datums: Sequence[Sequence[Datum]]) -> list[int]:
    if len(rewards) != len(datums):
        raise ConfigurationError(
            f"{len(rewards)} rewards for {len(datums)} rollouts: expected the datums of each rollout of the group, "
            "an empty list where it has none."
        )
    return [place for place, sequences in enumerate(datums) if sequences]


def _marked(datum: Datum, advantage: float, group: str | None = None) -> Datum:
    return datum.model_copy(
        update={
            "advantages": [advantage * chosen for chosen in datum.mask],
            "group_id": datum.group_id if group is None else group,
        }
    )


def _sign(gap: float, resolution: float) -> int:
    return (gap > resolution) - (gap < -resolution)


def _check(rewards: Sequence[float]) -> None:
    for place, reward in enumerate(rewards):
        if not isfinite(reward):
            raise ConfigurationError(
                f"Reward {place} of the group is {reward}: expected finite numbers. A rollout that failed gets the "
                "worst grade, not NaN."
            )
