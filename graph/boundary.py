"""Boundaries: what a campaign asks before every node, and while it waits for a job, before it goes on.

Three things say no: another process that took the campaign over, the kill switch, and a budget. A drain is the fourth;
between nodes LangGraph asks that itself.
"""

from collections.abc import Collection

from langgraph.errors import GraphBubbleUp

from ..core import LeaseLost
from ..nodes.context import Services
from ..safety.budget import Charge, Scope


class Overtaken(GraphBubbleUp):
    """Carries a `LeaseLost` out of a node: unlike other errors, LangGraph writes nothing of it to the checkpoints."""


def check_boundary(services: Services, charge: Charge, scopes: Collection[Scope]) -> None:
    """Return if the campaign may go on.

    Raises:
        Overtaken: another process has taken the campaign over.
        Stopped: the kill switch is set.
        LimitReached: a limit of one of the scopes is reached.
    """
    check_lease(services)
    services.kill_switch.check(charge.campaign)
    services.budget.check(charge, scopes)


def check_lease(services: Services) -> None:
    """Return if this process still runs the campaign.

    Raises:
        Overtaken: another process has taken it over.
    """
    if services.lease is not None:
        try:
            services.lease.check()
        except LeaseLost as lost:
            raise Overtaken(str(lost)) from lost
