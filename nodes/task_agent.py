"""Task agent: the live version works on this round's visible items."""

from pydantic import JsonValue

from ..evals.bills import require_bill
from .charging import charged
from .journal import counter, key, round_plan, save_trajectories
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State


async def task_agent(state: State, runtime: NodeRuntime) -> Update:
    """Run every attempt at every item, each in a sandbox of its own; what fails is part of the result.

    A round works on what is live as it begins, whoever has moved the channel since the round before.
    """
    context = runtime.context
    version = context.live_versions()[state["task"]]
    plan = round_plan(runtime, state)
    operation = key(state, "task_agent", version.id)

    async def roll_out() -> JsonValue:
        with charged(state, runtime, "task_agent", operation, model=version.model):
            trajectories = await context.rollouts(version, plan, counter(runtime, "task_agent", "rollouts", len(plan)))
        require_bill(trajectories, state["rules"].races)
        return save_trajectories(context.artifacts, trajectories)

    digest = str(await context.operations.once(operation, "rollouts", roll_out))
    return {"trajectories": digest, "candidate": None, "live": version.id}


SPEC = NodeSpec(
    name="task_agent",
    run=task_agent,
    reads=("campaign", "round", "task", "seed", "rules"),
    writes=("trajectories", "candidate", "live"),
    needs=(
        Need.TASK,
        Need.ARTIFACTS,
        Need.LIVE_VERSIONS,
        Need.ROLLOUTS,
        Need.OPERATIONS,
        Need.CAMPAIGNS,
        Need.BUDGET,
    ),
)
