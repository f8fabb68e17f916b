"""How a round's lever becomes a candidate: a version in the registry, an event in the ledger, a key of the state."""

from ..core import Version
from .decision import Lever
from .journal import record
from .spec import NodeRuntime, Update
from .state import Candidate, State

NO_CANDIDATE: Update = {"candidate": None, "approval": None, "races": []}
"""The update of a round whose lever came to nothing."""


def propose(
    state: State, runtime: NodeRuntime, version: Version, *, node: str, lever: Lever, operator: str, summary: str
) -> Update:
    """Register a version that wants to become live, and write down who made it.

    Args:
        state: of the campaign.
        runtime: of the node that made the version; it needs the registry and the ledger.
        version: what was made.
        node: who made it.
        lever: what was pulled.
        operator: the scaffold operator, or the training objective.
        summary: digest of the diff or of the training summary.

    Returns:
        The candidate as an update of the state; none if the version is the live one.
    """
    if version.id == state["live"]:
        return NO_CANDIDATE
    runtime.context.registry.add(
        version,
        task=state["task"],
        parent=state["live"],
        lever=lever,
        campaign=state["campaign"],
        round=state["round"],
    )
    candidate = Candidate(version=version.id, parent=state["live"], lever=lever, operator=operator, summary=summary)
    made = f"{version.id[:8]}{summary[:8]}"  # a person's edit may lead back to a version that was proposed before
    record(runtime, state, node, "candidate.made", candidate.model_dump(mode="json"), made)
    return {"candidate": candidate, "approval": None, "races": []}
