"""Feedback-Agent: reads every trajectory of the round and pulls one lever, or stops."""

from pydantic import JsonValue

from ..core import Trajectory, Usage
from ..evals.scaffold import FILE, ScaffoldConfig
from .charging import charged
from .decision import Decision, Lever, Operator
from .evidence import RoundEvidence, RoundRecord
from .journal import key, load_trajectories, record, visible_items
from .rounds import RoundRow, past_rounds
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State, StopReason


async def feedback_agent(state: State, runtime: NodeRuntime) -> Update:
    """Decide, and write down on what evidence, what is expected, and at what cost."""
    context = runtime.context
    operation = key(state, "feedback_agent", state["trajectories"])

    async def decide() -> JsonValue:
        with charged(state, runtime, "feedback_agent", operation, model=context.base_model):
            decision = await context.feedback.decide(gather_evidence(state, runtime))
        return decision.model_dump(mode="json")

    decision = Decision.model_validate(await context.operations.once(operation, "decision", decide))
    record(runtime, state, "feedback_agent", "lever.decided", decision.model_dump(mode="json"))
    update: dict[str, object] = {"decision": decision, "approval": None, "races": [], "note": ""}
    if decision.lever is Lever.STOP:
        update["stop"] = StopReason.DECIDED
    return update


def gather_evidence(state: State, runtime: NodeRuntime) -> RoundEvidence:
    """Put together what a decision may rest on: this round's trajectories, past rounds, and what is left."""
    context = runtime.context
    rows = past_rounds(runtime, state)
    items = visible_items(context.task, state)
    earlier: list[Trajectory] = []
    for row in rows:
        earlier += load_trajectories(context.artifacts, row.trajectories)
    races = state["rules"].races
    return RoundEvidence(
        task=state["task"],
        round=state["round"],
        metric=context.task.metric,
        trajectories=load_trajectories(context.artifacts, state["trajectories"]),
        earlier=earlier,
        payloads={item.id: item.payload for item in items},
        scaffold=_typed_part(state, runtime),
        sealed=2 * (races.holdout + races.regression + races.adversarial),
        guarded=sum(1 for task in context.live_versions() if task != state["task"]),
        history=[_to_record(row, runtime) for row in rows],
        budget=context.budget.left(),
        trainable=context.training_base is not None,
        capable=context.capable,
    )


def _typed_part(state: State, runtime: NodeRuntime) -> ScaffoldConfig | None:
    context = runtime.context
    tree = context.artifacts.get_tree(context.registry.get(state["live"]).version.scaffold)
    try:
        return ScaffoldConfig.model_validate_json(tree[FILE])
    except (KeyError, ValueError):
        return None  # a scaffold without a readable typed part can still be edited as files


def _to_record(row: RoundRow, runtime: NodeRuntime) -> RoundRecord:
    candidate, target = row.candidate, row.races[0] if row.races else None
    by_scaffold = row.decision.lever is Lever.SCAFFOLD
    operator = None
    if by_scaffold:
        known = candidate is not None and candidate.operator in set(Operator)
        operator = Operator(candidate.operator) if candidate is not None and known else Operator.NONE
    scaffold = None
    if candidate is not None and by_scaffold:
        scaffold = runtime.context.registry.get(candidate.version).version.scaffold
    return RoundRecord(
        round=row.round,
        lever=row.decision.lever,
        diagnosis=row.decision.diagnosis,
        operator=operator,
        objective=row.decision.objective.kind if row.decision.objective is not None else None,
        expected_gain=row.decision.expected_gain,
        before=target.before if target is not None else None,
        after=target.after if target is not None else None,
        outcomes={race.race.value: race.outcome.value for race in row.races},
        promoted=row.promoted,
        cost=row.usage.repeatable if row.usage else Usage(),
        scaffold=scaffold,
        response=row.approval.reason if row.approval is not None and row.approval.verdict == "respond" else "",
    )


SPEC = NodeSpec(
    name="feedback_agent",
    run=feedback_agent,
    reads=("campaign", "round", "task", "live", "trajectories", "rules", "note"),
    writes=("decision", "approval", "races", "note", "stop"),
    needs=(
        Need.FEEDBACK,
        Need.LIVE_VERSIONS,
        Need.TASK,
        Need.ARTIFACTS,
        Need.REGISTRY,
        Need.OPERATIONS,
        Need.CAMPAIGNS,
        Need.BUDGET,
        Need.LEDGER,
    ),
)
