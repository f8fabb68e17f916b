"""Evaluator: grades the round's trajectories by the task's trusted grader."""

from pydantic import JsonValue

from ..core import Usage, derive_seed
from .grading import grade_all, summarise
from .journal import counter, index_all, key, load_trajectories, record, save_trajectories, visible_items
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State


async def evaluator(state: State, runtime: NodeRuntime) -> Update:
    """Grade every trajectory; a round without one valid output is a result like any other."""
    context = runtime.context
    operation = key(state, "evaluator", state["trajectories"])

    async def grade() -> JsonValue:
        trajectories = load_trajectories(context.artifacts, state["trajectories"])
        items = {item.id: item for item in visible_items(context.task, state)}
        graded = await grade_all(
            context.task, items, trajectories, counter(runtime, "evaluator", "graded", len(trajectories))
        )
        graded_digest = save_trajectories(context.artifacts, graded)
        index_all(runtime, state, "task_agent", graded, graded_digest)
        context.meter.add(
            state["campaign"],
            operation,
            "evaluator",
            state["round"],
            Usage(verifications=sum(1 for trajectory in graded if trajectory.output)),
        )
        return graded_digest

    digest = str(await context.operations.once(operation, "grades", grade))
    evaluation = summarise(
        load_trajectories(context.artifacts, digest), derive_seed(state["seed"], "evaluator", state["round"])
    )
    record(
        runtime,
        state,
        "evaluator",
        "round.evaluated",
        {"version": state["live"], "trajectories": digest, "mean": evaluation.mean, "valid": evaluation.valid},
    )
    return {"trajectories": digest, "evaluation": evaluation}


SPEC = NodeSpec(
    name="evaluator",
    run=evaluator,
    reads=("campaign", "round", "live", "seed", "rules", "trajectories"),
    writes=("trajectories", "evaluation"),
    needs=(Need.TASK, Need.ARTIFACTS, Need.OPERATIONS, Need.TRAJECTORIES, Need.METER, Need.LEDGER),
)
