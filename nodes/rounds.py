"""The record of a finished round: the row that people read and that the next diagnosis starts from."""

from pydantic import BaseModel, ConfigDict

from ..core import Usage
from .decision import Decision, Lever
from .spec import NodeRuntime
from .state import Approval, Candidate, Evaluation, RaceSummary, State, StopReason


class RoundRow(BaseModel):
    """Everything that one round decided and cost."""

    model_config = ConfigDict(frozen=True)

    round: int
    decision: Decision
    candidate: Candidate | None
    evaluation: Evaluation
    races: list[RaceSummary]
    approval: Approval | None
    fate: str
    """Promoted, rolled back, or why the candidate was let go."""
    live: str
    """Version that is live after the round."""
    sampled: str
    """Version that made this round's trajectories."""
    trajectories: str
    usage: Usage

    @property
    def promoted(self) -> bool:
        """Whether the candidate is live after the round."""
        return self.candidate is not None and self.live == self.candidate.version


def past_rounds(runtime: NodeRuntime, state: State) -> list[RoundRow]:
    """The rounds of this campaign so far, in order."""
    rows = runtime.context.campaigns.rounds(state["campaign"])
    return [RoundRow.model_validate(row) for number, row in rows.items() if number < state["round"]]


def finish_round(state: State, runtime: NodeRuntime, fate: str) -> dict[str, object]:
    """Write the round's row and return what the state needs for the next: its number, or why the campaign ends."""
    context, rules, number = runtime.context, state["rules"], state["round"]
    candidate = state.get("candidate")
    row = RoundRow(
        round=number,
        decision=state["decision"],
        candidate=candidate,
        evaluation=state["evaluation"],
        races=state.get("races") or [],
        approval=state.get("approval"),
        fate=fate,
        live=state["live"] if fate != "rolled back" or candidate is None else candidate.parent,
        sampled=candidate.parent if candidate is not None else state["live"],
        trajectories=state["trajectories"],
        usage=context.meter.by_round(state["campaign"]).get(number, Usage()),
    )
    context.campaigns.record_round(state["campaign"], number, row.model_dump(mode="json"))
    runtime.stream_writer({"kind": "round", "row": row.model_dump(mode="json")})
    pulled = sorted({*state.get("pulled", []), state["decision"].lever})
    stop = state.get("stop")
    if rules.until_each_lever and {Lever.SCAFFOLD, Lever.WEIGHTS} <= set(pulled):
        stop = StopReason.EACH_LEVER
    elif number >= rules.rounds:
        stop = StopReason.ROUNDS
    return {"round": number + 1, "stop": stop, "pulled": pulled}
