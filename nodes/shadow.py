"""Shadow: replays recorded items through both versions and stores both outputs; then writes what the gate asks.

Nothing that the candidate answers here reaches anybody but the reader of the report.
"""

from collections.abc import Sequence

from pydantic import JsonValue

from ..core import Trajectory, Usage
from .charging import charged, verified
from .grading import grade_all
from .journal import counter, key, record, replay_seed, visible_items
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import Candidate, RaceSummary, State


async def shadow(state: State, runtime: NodeRuntime) -> Update:
    """Replay, store, and put the approval request together."""
    context, candidate = runtime.context, state["candidate"]
    assert candidate is not None
    operation = key(state, "shadow", candidate.version)
    items = visible_items(context.task, state)[: state["rules"].shadow_items]

    async def replay() -> JsonValue:
        plan = [(item, replay_seed(state, item, "shadow")) for item in items]
        by_id = {item.id: item for item in items}
        outputs: dict[str, list[JsonValue]] = {}
        for side, version_id in (("live", state["live"]), ("candidate", candidate.version)):
            version = context.registry.get(version_id).version
            with charged(state, runtime, "shadow", f"{operation}/{side}", model=version.model) as spending:
                trajectories = await context.rollouts(
                    version, plan, counter(runtime, "shadow", f"shadow, {side}", len(plan))
                )
                graded = await grade_all(context.task, by_id, trajectories, verified(spending))
            outputs[side] = [_output(trajectory) for trajectory in graded]
        return context.artifacts.put_json({"items": [item.id for item in items], **outputs})

    digest = str(await context.operations.once(operation, "shadow", replay))
    request = _request(state, runtime, candidate, digest)
    asked: dict[str, JsonValue] = {"version": candidate.version, "shadow": digest}
    record(runtime, state, "shadow", "approval.requested", asked, candidate.version)
    return {"shadow": digest, "request": context.artifacts.put_json(request), "approval": None}


def _output(trajectory: Trajectory) -> JsonValue:
    grade = trajectory.grade
    return {
        "item": trajectory.item,
        "output": trajectory.output,
        "stop": trajectory.stop.value,
        "grade": grade.value if grade is not None else None,
    }


def _request(state: State, runtime: NodeRuntime, candidate: Candidate, shadow_digest: str) -> dict[str, JsonValue]:
    """The approval request, in the shape of LangChain's human-in-the-loop requests."""
    context = runtime.context
    summary = context.artifacts.get(candidate.summary).decode()
    races: Sequence[RaceSummary] = state["races"]
    spent = context.meter.by_round(state["campaign"]).get(state["round"], Usage())
    target = races[0]
    basis = ", from estimated times" if target.estimated else ""
    lines = [
        f"Promote {candidate.version[:12]} over {candidate.parent[:12]} on {state['task']}: "
        f"{candidate.lever.value} lever, {candidate.operator}.",
        f"Target, {context.task.metric.name}: {target.before:.3f} -> {target.after:.3f}{basis}."
        if target.before is not None and target.after is not None
        else "",
        "Races: " + ", ".join(f"{race.race.value} {race.outcome.value}" for race in races) + ".",
        f"Cost of the round so far: {spent.tokens:,} tokens, {spent.verifications:,} verifications, "
        f"{spent.training_steps:,} training steps, the sealed races at their fixed bill.",
        f"Rollback would restore {candidate.parent[:12]}.",
        "",
        summary,
    ]
    return {
        "action_requests": [
            {
                "name": "promote",
                "args": {"task": state["task"], "version": candidate.version, "parent": candidate.parent},
                "description": "\n".join(lines),
            }
        ],
        "review_configs": [{"action_name": "promote", "allowed_decisions": ["approve", "edit", "reject", "respond"]}],
        "races": [race.model_dump(mode="json") for race in races],
        "decision": state["decision"].model_dump(mode="json"),
        "cost": spent.repeatable.model_dump(mode="json"),
        "shadow": shadow_digest,
        "rollback": candidate.parent,
    }


SPEC = NodeSpec(
    name="shadow",
    run=shadow,
    reads=("campaign", "round", "task", "seed", "live", "candidate", "races", "decision", "rules"),
    writes=("shadow", "request", "approval"),
    needs=(
        Need.TASK,
        Need.ARTIFACTS,
        Need.REGISTRY,
        Need.ROLLOUTS,
        Need.OPERATIONS,
        Need.BUDGET,
        Need.METER,
        Need.LEDGER,
    ),
)
