"""Which rollouts a training job may learn from, how far back their policies are, and the value head it goes on from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue

from ..core import Trajectory
from .journal import key, load_trajectories
from .rounds import RoundRow, past_rounds
from .spec import NodeRuntime
from .state import State


@dataclass(frozen=True)
class Sample:
    """Rollouts, newest first."""

    trajectories: list[Trajectory]
    ages: dict[str, int]
    """Version to how many promoted adapters back its policy is; a version whose policy was never live is not there."""

    @property
    def older(self) -> set[str]:
        """Versions whose policy was live before the one that is."""
        return {version for version, age in self.ages.items() if age > 0}


def sample(state: State, runtime: NodeRuntime) -> Sample:
    """This round's rollouts, and earlier ones of policies that are near enough, up to the rule's number.

    What counts is the policy, not the scaffold: a trajectory keeps the tokens, the masks and the log-probabilities
    that it was drawn with, whatever asked for them. Those that are too far back are there too, as long as there is
    room, so that whoever makes datums of them can count what it drops.
    """
    context, rules = runtime.context, state["rules"]
    rows = list(reversed(past_rounds(runtime, state)))

    def adapter(version: str) -> str | None:
        return context.registry.get(version).version.adapter

    lineage = dict.fromkeys([adapter(state["live"]), *(adapter(row.sampled) for row in rows)])
    ranks = {policy: rank for rank, policy in enumerate(lineage)}
    ages = {state["live"]: 0}
    found = load_trajectories(context.artifacts, state["trajectories"])
    room = rules.replay
    for version, digest in _sources(rows):
        if room <= 0:
            break
        policy, earlier = adapter(version), load_trajectories(context.artifacts, digest)
        if policy in ranks:
            ages[version] = ranks[policy]
        if ages.get(version, rules.staleness + 1) <= rules.staleness:
            earlier = earlier[:room]
            room -= len(earlier)
        found += earlier
    return Sample(found, ages)


def last_critic(state: State, runtime: NodeRuntime) -> str | None:
    """Artefact of the newest value head that this campaign trained, whatever became of its candidate.

    A head tells the value of states of the base under the policy that made the rollouts, which was the live one.
    """
    for row in reversed(past_rounds(runtime, state)):
        done = runtime.context.operations.lookup(key({**state, "round": row.round}, "trainer", row.sampled))
        found = cast(dict[str, JsonValue], done).get("critic") if isinstance(done, dict) else None
        if isinstance(found, str):
            return found
    return None


def _sources(rows: list[RoundRow]) -> Iterator[tuple[str, str]]:
    """Version and artefact of what earlier rounds drew, newest first."""
    for row in rows:
        yield row.sampled, row.trajectories
        if row.candidate is not None and row.races:
            yield row.candidate.version, row.races[0].evidence
