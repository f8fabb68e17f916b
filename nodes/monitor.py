"""Monitor: watches the promoted version on replayed items, and calls for a rollback when it is worse.

It samples what the channel really serves: a wrong adapter or a missing file shows here though the races passed.
"""

from collections.abc import Sequence

from pydantic import JsonValue

from ..core import derive_seed
from ..evals.races import paired_effects
from ..evals.statistics import mean, paired_interval
from ..evals.task import Item
from .charging import charged, verified
from .grading import grade_all
from .journal import (
    counter,
    key,
    load_trajectories,
    record,
    replay_seed,
    save_trajectories,
    visible_items,
)
from .rounds import finish_round
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State


async def monitor(state: State, runtime: NodeRuntime) -> Update:
    """Compare the live version with the one before on the same items and seeds.

    Worse means: the whole 95 % interval of the mean effect is below minus the task's margin, or there are too few
    items for an interval and the mean effect is below it.
    """
    context, candidate = runtime.context, state["candidate"]
    assert candidate is not None
    items = visible_items(context.task, state)[: state["rules"].monitor_items]
    plan = [(item, replay_seed(state, item, "monitor")) for item in items]
    live, before = [
        load_trajectories(context.artifacts, await _watch(state, runtime, side, version, plan))
        for side, version in (("live", candidate.version), ("before", candidate.parent))
    ]
    effects = [effect.value for effect in paired_effects(items, live, before, context.task.metric)]
    _, high = paired_interval(effects, derive_seed(state["seed"], "monitor", state["round"]))
    margin = context.task.metric.margin
    worse = bool(effects) and mean(effects) < -margin and (len(effects) < 2 or high < -margin)
    record(
        runtime,
        state,
        "monitor",
        "version.monitored",
        {"version": candidate.version, "items": len(effects), "effect": mean(effects), "worse": worse},
    )
    if worse:
        return {"worse": True}
    return {"worse": False, **finish_round(state, runtime, "promoted")}


async def _watch(
    state: State, runtime: NodeRuntime, side: str, version_id: str, plan: Sequence[tuple[Item, int]]
) -> str:
    context = runtime.context
    version = context.registry.get(version_id).version
    operation = key(state, f"monitor.{side}", version_id)

    async def watch() -> JsonValue:
        tell = counter(runtime, "monitor", f"monitor, {side}", len(plan))
        with charged(state, runtime, "monitor", operation, model=version.model) as spending:
            trajectories = await context.rollouts(version, plan, tell)
            graded = await grade_all(
                context.task, {item.id: item for item, _ in plan}, trajectories, verified(spending)
            )
        return save_trajectories(context.artifacts, graded)

    return str(await context.operations.once(operation, "monitor", watch))


SPEC = NodeSpec(
    name="monitor",
    run=monitor,
    reads=("campaign", "round", "task", "seed", "live", "candidate", "rules"),
    writes=("worse", "round", "stop", "pulled"),
    needs=(
        Need.TASK,
        Need.ARTIFACTS,
        Need.REGISTRY,
        Need.ROLLOUTS,
        Need.OPERATIONS,
        Need.CAMPAIGNS,
        Need.BUDGET,
        Need.METER,
        Need.LEDGER,
    ),
)
