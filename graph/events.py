"""What a running campaign tells whoever watches it: a closed union of frozen events."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ..nodes.rounds import RoundRow
from ..nodes.state import StopReason
from ..safety.budget import Dimension, Scope


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)

    campaign: str


class NodeStarted(_Event):
    """A node begins."""

    kind: Literal["node"] = "node"
    node: str


class Progress(_Event):
    """How far a node is."""

    kind: Literal["progress"] = "progress"
    node: str
    text: str
    done: int = 0
    total: int = 0


class RoundFinished(_Event):
    """A round's row is written."""

    kind: Literal["round"] = "round"
    row: RoundRow


class BudgetWarned(_Event):
    """80 % of a limit are spent; told once for each limit."""

    kind: Literal["budget"] = "budget"
    scope: Scope
    dimension: Dimension
    spent: str
    limit: str


class Waiting(_Event):
    """The campaign waits at the gate."""

    kind: Literal["waiting"] = "waiting"
    request: str
    """Id to answer to."""
    description: str


class Parked(_Event):
    """A long job runs on; the campaign is woken when it ends."""

    kind: Literal["parked"] = "parked"
    job: str


class Halted(_Event):
    """Drained, stopped by the kill switch, or out of budget; it can be resumed."""

    kind: Literal["halted"] = "halted"
    reason: str


class Finished(_Event):
    """The campaign has ended."""

    kind: Literal["finished"] = "finished"
    reason: StopReason
    live: str


Event = Annotated[
    NodeStarted | Progress | RoundFinished | BudgetWarned | Waiting | Parked | Halted | Finished,
    Field(discriminator="kind"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
