"""For what a node spends: campaign, round, node, and, from the choice of a lever on, the candidate."""

from ..safety.budget import Charge
from .state import State

MAKES_CANDIDATE = frozenset({"scaffold_editor", "trainer"})
_BEFORE = frozenset({"meta_agent", "task_agent", "evaluator", "feedback_agent"})


def charge_of(state: State, node: str, *, model: str | None = None) -> Charge:
    """What a node's spending counts towards."""
    candidate = None if node in _BEFORE else state.get("candidate")
    making = node in MAKES_CANDIDATE
    return Charge(
        campaign=state["campaign"],
        round=state.get("round", 0),
        node=node,
        lever=candidate.lever if candidate is not None else state["decision"].lever if making else None,
        model=model,
        candidate=candidate.version if candidate is not None and not making else "" if making else None,
    )
