"""For what a node spends, and which limits hold it: campaign, round, and from the choice of a lever the candidate.

    with charged(state, runtime, "task_agent", operation, model=version.model) as spending:
        trajectories = await context.rollouts(version, plan)       # paid from it: calls, verifications, CPU time
        graded = await grade_all(task, items, trajectories, verified(spending))

A candidate's or a round's budget that is used up lets go of the candidate, as a lost race would, and the next round
begins. Once a candidate is live neither is asked any more: watching what is live must not end for want of money.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from ..core import Trajectory, Usage
from ..safety.budget import Charge, LimitReached, Prepaid, Scope, Spending
from ..safety.budget.limits import UNITS
from .candidates import NO_CANDIDATE
from .spec import NodeRuntime, Update
from .state import State

_BEFORE = frozenset({"meta_agent", "task_agent", "evaluator", "feedback_agent"})
"""Nodes before there is a candidate; the state may hold the last round's."""
_MAKING = frozenset({"scaffold_editor", "trainer"})
_TRYING = frozenset({"gauntlet", "shadow"})
_AFTER = frozenset({"promoter", "monitor", "rollback"})
"""Nodes after the candidate went live: what they take belongs to the campaign."""


def charge_of(state: State, node: str, *, model: str | None = None) -> Charge:
    """What a node's spending counts towards."""
    candidate = None if node in _BEFORE | _AFTER else state.get("candidate")
    making = node in _MAKING
    lever = candidate.lever if candidate is not None else state["decision"].lever if making else None
    return Charge(
        campaign=state["campaign"],
        round=state.get("round", 0),
        node=node,
        lever=lever.value if lever is not None else None,
        model=model,
        candidate="" if making else candidate.version if candidate is not None else None,
    )


def scopes_at(node: str) -> Collection[Scope]:
    """The scopes whose limits stop a node before it begins."""
    if node in _TRYING or node == "scaffold_editor":  # a trainer asks where it begins a job, not when that has ended
        return tuple(Scope)
    if node == "task_agent":
        return Scope.CAMPAIGN, Scope.DAY, Scope.ROUND
    return Scope.CAMPAIGN, Scope.DAY


def scopes_within(node: str) -> Collection[Scope]:
    """The scopes whose limits hold what a node spends."""
    return (Scope.CAMPAIGN, Scope.DAY) if node in _AFTER else tuple(Scope)


def charged(
    state: State, runtime: NodeRuntime, node: str, operation: str, *, model: str | None = None
) -> AbstractContextManager[Prepaid]:
    """Pay for what is done within the block; it comes to one event under the operation's key."""
    return runtime.context.budget.charging(charge_of(state, node, model=model), operation, scopes_within(node))


def verified(spending: Spending) -> Callable[[Trajectory], None]:
    """A callback that counts the verification of each trajectory as it is graded, so that a stop loses none."""

    def count(graded: Trajectory) -> None:
        if graded.output is not None:
            spending.took(Usage(verifications=1))

    return count


def let_go(node: str, limit: LimitReached) -> Update | None:
    """What a node that ran into a limit leaves in the state; none where the campaign must halt."""
    if limit.scope not in (Scope.ROUND, Scope.CANDIDATE):
        return None
    spent = {"exhausted": f"{limit.scope.value}'s budget of {UNITS[limit.dimension]} used up"}
    if node in _MAKING:
        return {**NO_CANDIDATE, **spent}
    if node == "gauntlet":
        return {"races": [], **spent}
    return {"shadow": None, "request": None, "approval": None, **spent} if node == "shadow" else None
