"""Forks: campaigns that begin from a saved state of another.

What a fork begins from is part of how it was started, so that one whose process died before its first state was
written begins from there all the same.
"""

from dataclasses import dataclass
from typing import Any

from ..core import NotFound
from ..nodes.state import CampaignRules
from ..release import Campaign
from .store import Store


@dataclass(frozen=True)
class SavedState:
    """One checkpoint of a campaign."""

    id: str
    values: dict[str, Any]
    ran: str
    """The node that left this state."""


async def find_state(graph: Any, campaign: str, checkpoint: str) -> SavedState:
    """Find a campaign's checkpoint by the beginning of its id.

    Raises:
        NotFound: the campaign has none, or several, that begin so.
    """
    states = [each async for each in graph.aget_state_history({"configurable": {"thread_id": campaign}})]
    found = [each for each in states if each.config["configurable"]["checkpoint_id"].startswith(checkpoint)]
    if not checkpoint or len(found) != 1:
        raise NotFound(
            f"Campaign {campaign} has {len(found)} checkpoints that begin with {checkpoint!r}. "
            f"`pawl history {campaign}` lists them."
        )
    [state] = found
    before = [each for each in states if each.config == state.parent_config]
    ran = before[0].next[0] if before and before[0].next else "__start__"
    return SavedState(state.config["configurable"]["checkpoint_id"], dict(state.values), ran)


async def begin_fork(graph: Any, store: Store, row: Campaign) -> None:
    """Write the first state of a fork; nothing to do for a campaign that is none, or that begins at the start.

    Raises:
        NotFound: the state that it was to begin from is gone.
    """
    origin = row.settings.get("fork")
    if not isinstance(origin, dict):
        return
    source = await find_state(graph, str(origin["campaign"]), str(origin["checkpoint"]))
    if not source.values.get("round"):
        return
    store.copy_rounds(str(origin["campaign"]), row.id, before=source.values["round"])
    values = {
        **source.values,
        "campaign": row.id,
        "trace_id": row.settings["trace_id"],
        "rules": CampaignRules.model_validate(row.settings["rules"]),
    }
    await graph.aupdate_state({"configurable": {"thread_id": row.id}}, values, as_node=source.ran)
