"""Scaffold editor: makes a candidate with another scaffold over the same weights."""

from pydantic import JsonValue

from ..core import derive_seed
from .candidates import propose
from .charging import charged
from .decision import Lever
from .feedback_agent import gather_evidence
from .journal import key
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State, Verdict


async def scaffold_editor(state: State, runtime: NodeRuntime) -> Update:
    """Ask the editor for an edit, or carry out the one that a person made at the gate."""
    context = runtime.context
    parent, lever = context.registry.get(state["live"]).version, Lever.SCAFFOLD
    approval = state.get("approval")
    if approval is not None and approval.verdict is Verdict.EDIT and (edited := state.get("candidate")) is not None:
        base = context.registry.get(edited.version).version
        tree = {**context.artifacts.get_tree(base.scaffold), **{k: v.encode() for k, v in approval.files.items()}}
        made: dict[str, JsonValue] = {
            "scaffold": context.artifacts.put_tree(tree),
            "operator": "edit-at-gate",
            "summary": context.artifacts.put(f"Edited at the gate by {approval.actor}: {approval.reason}".encode()),
        }
        parent, lever = base, edited.lever
    else:
        operation = key(state, "scaffold_editor", state["live"])

        async def edit() -> JsonValue:
            files = context.artifacts.get_tree(parent.scaffold)
            with charged(state, runtime, "scaffold_editor", operation, model=context.base_model):
                made = await context.editor.edit(
                    files,
                    state["decision"],
                    gather_evidence(state, runtime),
                    derive_seed(state["seed"], "scaffold_editor", state["round"]),
                )
            return {
                "scaffold": context.artifacts.put_tree(made.apply(files)),
                "operator": made.operator.value,
                "summary": context.artifacts.put(f"{made.summary}\n\n{made.diff}".encode()),
            }

        result = await context.operations.once(operation, "edit", edit)
        made = result if isinstance(result, dict) else {}
    version = parent.model_copy(update={"scaffold": str(made["scaffold"])})
    return propose(
        state,
        runtime,
        version,
        node="scaffold_editor",
        lever=lever,
        operator=str(made["operator"]),
        summary=str(made["summary"]),
    )


SPEC = NodeSpec(
    name="scaffold_editor",
    run=scaffold_editor,
    reads=("campaign", "round", "live", "seed", "decision", "trajectories", "approval", "candidate", "rules"),
    writes=("candidate", "approval", "races"),
    needs=(
        Need.EDITOR,
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
