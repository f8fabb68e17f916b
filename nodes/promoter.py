"""Promoter and rollback: one operation, the move of a channel, in its two directions."""

from pydantic import JsonValue

from ..core import Conflict
from ..core.faults import point
from ..release import Channel
from ..safety.telemetry import names, span
from .journal import entry, key, record
from .rounds import finish_round
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State, Verdict


async def promoter(state: State, runtime: NodeRuntime) -> Update:
    """Move the task's live channel to the approved candidate.

    Where somebody has moved the channel since the campaign read it, that stands: the candidate won its races against
    a version that is no longer live, so it is discarded, and the campaign goes on from what is live now.

    Raises:
        ConfigurationError: from the registry, when an artefact of the candidate is missing or damaged.
    """
    context = runtime.context
    candidate, approval = state["candidate"], state["approval"]
    assert candidate is not None
    assert approval is not None
    assert approval.verdict is Verdict.APPROVE
    known = context.registry.verify(candidate.version)
    if any(race.estimated for race in state["races"]):
        context.registry.add(
            known.version,
            task=state["task"],
            parent=candidate.parent,
            lever=candidate.lever,
            campaign=state["campaign"],
            round=state["round"],
            estimated_only=True,
        )
    pointer = context.channels.get(state["task"], Channel.LIVE)
    epoch = pointer.epoch if pointer is not None and pointer.version == state["live"] else -1
    event: dict[str, JsonValue] = {"version": candidate.version, "previous": state["live"], "actor": approval.actor}
    told = {names.VERSION: candidate.version, names.PREVIOUS: state["live"], names.ACTOR: approval.actor}
    try:
        with span("promotion", told):
            context.channels.move(
                state["task"],
                Channel.LIVE,
                candidate.version,
                expected_epoch=epoch,
                key=key(state, "promoter", candidate.version),
                reason=approval.reason,
                actor=approval.actor,
                tell=lambda _: entry(state, "promoter", "version.promoted", event),
            )
    except Conflict:
        moved = context.channels.get(state["task"], Channel.LIVE)
        assert moved is not None
        return {"live": moved.version}
    point("promoter.moved")
    return {"live": candidate.version}


async def rollback(state: State, runtime: NodeRuntime) -> Update:
    """Move the live channel back to the version before, because the monitor found the new one worse."""
    context = runtime.context
    promotion = context.channels.move(  # the recorded one: the key was used for it, so nothing moves
        state["task"],
        Channel.LIVE,
        state["live"],
        expected_epoch=-1,
        key=key(state, "promoter", state["live"]),
        reason="",
        actor="",
    )

    def told(to: str) -> dict[str, JsonValue]:
        return {"from": state["live"], "to": to}

    try:
        with span("rollback", {names.PREVIOUS: state["live"], names.ACTOR: "rule:monitor"}) as current:
            pointer = context.channels.rollback(
                state["task"],
                expected_epoch=promotion.epoch,
                key=key(state, "rollback", state["live"]),
                actor="rule:monitor",
                reason="worse than the version before on replayed items",
                tell=lambda move: entry(state, "rollback", "version.rolled-back", told(move.version)),
            )
            current.set(names.VERSION, pointer.version)
    except Conflict:  # a person was faster; what they chose stands
        moved = context.channels.get(state["task"], Channel.LIVE)
        assert moved is not None
        pointer = moved
        record(runtime, state, "rollback", "version.rolled-back", told(pointer.version))
    return {"live": pointer.version, "worse": False, **finish_round(state, runtime, "rolled back")}


PROMOTER = NodeSpec(
    name="promoter",
    run=promoter,
    reads=("campaign", "round", "task", "live", "candidate", "approval", "races"),
    writes=("live",),
    needs=(Need.REGISTRY, Need.CHANNELS),
)
ROLLBACK = NodeSpec(
    name="rollback",
    run=rollback,
    reads=("campaign", "round", "task", "live", "rules"),
    writes=("live", "worse", "round", "stop", "pulled"),
    needs=(Need.CHANNELS, Need.LEDGER, Need.CAMPAIGNS, Need.METER),
)
