"""What a session shows of a home: requests, statuses, checkpoints."""

from typing import cast

from pydantic import BaseModel, ConfigDict, JsonValue

from ..core import Usage
from ..nodes.rounds import RoundRow
from ..release import Status


class Request(BaseModel):
    """Something that waits for a person."""

    model_config = ConfigDict(frozen=True)

    id: str
    campaign: str
    asked: str
    description: str
    request: JsonValue
    """The whole request, in LangChain's shape, with the races, the cost and what rollback would restore."""

    @property
    def version(self) -> str:
        """The candidate's id."""
        [action] = cast("dict[str, list[dict[str, dict[str, str]]]]", self.request)["action_requests"]
        return action["args"]["version"]


class CampaignStatus(BaseModel):
    """Where a campaign is."""

    model_config = ConfigDict(frozen=True)

    campaign: str
    task: str
    seed: int
    status: Status
    reason: str | None
    live: str | None
    """Version that the task's live channel points at now."""
    rounds: list[RoundRow]
    pending: list[Request]
    spent: Usage
    nano_dollars: int = 0
    """What that cost, in nano-dollars."""


class Checkpoint(BaseModel):
    """One saved state of a campaign."""

    model_config = ConfigDict(frozen=True)

    id: str
    created: str
    round: int
    next: list[str]
    """Nodes that would run next."""


def describe(request: JsonValue) -> str:
    """The text of an approval request, for people."""
    if isinstance(request, dict):
        actions = request.get("action_requests")
        if isinstance(actions, list) and actions and isinstance(actions[0], dict):
            return str(actions[0].get("description", ""))
    return ""
