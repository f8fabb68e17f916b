"""Discard: lets go of a candidate that didn't pass, that a person turned down, or that came too late."""

from .journal import record
from .rounds import finish_round
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State, Verdict


async def discard(state: State, runtime: NodeRuntime) -> Update:
    """Record why, keep the version for study, and go on; what a person said becomes evidence."""
    approval, candidate = state.get("approval"), state.get("candidate")
    if approval is not None and approval.verdict is Verdict.APPROVE:
        fate = f"overtaken: {state['task']}/live was moved to {state['live'][:12]} meanwhile"
    elif approval is not None:
        fate = f"{approval.verdict.value} by {approval.actor}"
    elif (exhausted := state.get("exhausted")) is not None:
        fate = exhausted
    elif candidate is None:
        fate = "no candidate"
    else:
        last = state["races"][-1] if state.get("races") else None
        fate = f"{last.race.value} race {last.outcome.value}" if last is not None else "not raced"
    note = approval.reason if approval is not None and approval.verdict is Verdict.RESPOND else ""
    record(
        runtime,
        state,
        "discard",
        "candidate.discarded",
        {"version": candidate.version if candidate is not None else None, "why": fate},
    )
    return {"note": note, "exhausted": None, **finish_round(state, runtime, fate)}


SPEC = NodeSpec(
    name="discard",
    run=discard,
    reads=("campaign", "round", "task", "live", "candidate", "races", "approval", "exhausted", "rules"),
    writes=("note", "exhausted", "round", "stop", "pulled"),
    needs=(Need.LEDGER, Need.CAMPAIGNS, Need.METER),
)
