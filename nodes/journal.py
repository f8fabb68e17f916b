"""What every node does the same way: idempotency keys, stored trajectories, progress, ledger events.

Stored trajectories leave out what differs between equal runs (seconds of hardware, trace ids), so that a resumed
campaign ends with the digests of an unbroken one. The seconds go to the meter instead.
"""

from collections.abc import Callable, Sequence

from pydantic import JsonValue, TypeAdapter

from ..core import ArtifactStore, Trajectory, derive_seed
from ..evals.continuation import Continues
from ..evals.evaluate import rollout_seed
from ..evals.races import Race
from ..evals.task import Item, Split, Task
from ..release import Entry
from ..release.trajectories import Indexed
from .rounds import past_rounds
from .spec import NodeRuntime
from .state import State

_TRAJECTORIES = TypeAdapter(list[Trajectory])

VISIBLE = 64
"""Size of the visible pool that rounds take their items from, in turn."""


def key(state: State, node: str, content: str = "") -> str:
    """Idempotency key of one effect: campaign, round, node, content."""
    return "/".join([state["campaign"], str(state.get("round", 0)), node, content[:16]])


def save_trajectories(store: ArtifactStore, trajectories: Sequence[Trajectory]) -> str:
    """Store trajectories without what differs between equal runs; return the digest."""
    plain = [
        trajectory.model_copy(
            update={
                "trace_id": "",
                "usage": trajectory.usage.repeatable,
                "steps": [
                    step.model_copy(update={"usage": step.usage.repeatable}) if step.kind != "note" else step
                    for step in trajectory.steps
                ],
            }
        )
        for trajectory in trajectories
    ]
    return store.put(_TRAJECTORIES.dump_json(plain))


def load_trajectories(store: ArtifactStore, digest: str) -> list[Trajectory]:
    """Read what `save_trajectories` wrote."""
    return _TRAJECTORIES.validate_json(store.get(digest))


def index_all(runtime: NodeRuntime, state: State, node: str, trajectories: Sequence[Trajectory], artifact: str) -> None:
    """Enter graded attempts into the index of this home."""
    runtime.context.trajectories.add(
        [
            Indexed(
                campaign=state["campaign"],
                round=state["round"],
                node=node,
                trajectory=each.id,
                version=each.version,
                item=each.item,
                artifact=artifact,
                grade=each.grade.value if each.grade is not None else None,
                valid=each.grade.valid if each.grade is not None else None,
                stop=each.stop,
            )
            for each in trajectories
        ]
    )


def visible_items(task: Task, state: State) -> list[Item]:
    """The items of this round: the next ones of the visible pool, which is gone through in turn."""
    count = state["rules"].items
    pool = task.items(Split.OPTIMISE, state["seed"], max(VISIBLE, count))
    start = (state["round"] - 1) * count
    return [pool[(start + offset) % len(pool)] for offset in range(count)]


def replay_seed(state: State, item: Item, where: str) -> int:
    """Seed of one replayed rollout: the same for both versions, so that their effects are paired."""
    return derive_seed(state["seed"], where, item.id)


def round_plan(runtime: NodeRuntime, state: State) -> list[tuple[Item, int]]:
    """Every (item, seed) of this round, attempts of one item side by side; what a task goes on from is in the items.

    The same for live and candidate: it rests on earlier rounds alone.
    """
    task = runtime.context.task
    plan = [
        (item, rollout_seed(state["seed"], item, attempt))
        for item in visible_items(task, state)
        for attempt in range(state["rules"].attempts)
    ]
    if isinstance(task, Continues):
        return task.continued(plan, _visible_so_far(runtime, state), state["seed"])
    return plan


def _visible_so_far(runtime: NodeRuntime, state: State) -> list[Trajectory]:
    """What live and candidates of earlier rounds did on visible items."""
    found: list[Trajectory] = []
    for row in past_rounds(runtime, state):
        seen = [row.trajectories, *(race.evidence for race in row.races if race.race is Race.TARGET)]
        for digest in seen:
            found += load_trajectories(runtime.context.artifacts, digest)
    return found


def counter(runtime: NodeRuntime, node: str, what: str, total: int) -> Callable[[Trajectory], None]:
    """A callback that reports progress each time a trajectory is done."""
    done = 0

    def report(_: Trajectory) -> None:
        nonlocal done
        done += 1
        progress(runtime, node, f"{what} {done}/{total}", done, total)

    return report


def progress(runtime: NodeRuntime, node: str, text: str, done: int = 0, total: int = 0) -> None:
    """Tell whoever watches the stream how far a node is."""
    runtime.stream_writer({"kind": "progress", "node": node, "text": text, "done": done, "total": total})


def record(runtime: NodeRuntime, state: State, node: str, kind: str, body: dict[str, JsonValue], of: str = "") -> None:
    """Append one event to the ledger, once for what it is `of`, however often the node runs."""
    runtime.context.ledger.append(*entry(state, node, kind, body, of))


def entry(state: State, node: str, kind: str, body: dict[str, JsonValue], of: str = "") -> Entry:
    """What `record` appends, for an effect that appends it in its own transaction."""
    return Entry(
        event_id="/".join([key(state, node, of), kind]),
        kind=kind,
        campaign=state["campaign"],
        body={"round": state.get("round", 0), **body},
        trace_id=state.get("trace_id", ""),
    )
