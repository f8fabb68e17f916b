"""Worker: the process behind `pawl work`, which wakes campaigns that are due.

Due is a campaign that sleeps for a job that has ended, one that waits at the gate and has been answered, and one
whose process died. One worker a home is enough; several don't hurt, since a campaign's lease lets in one at a time.
"""

import asyncio
from collections.abc import AsyncGenerator

from ..core import CampaignFinished, Conflict, PawlError
from ..release import Campaign, Status
from .events import Event, Halted
from .session import Session


def due(session: Session) -> list[Campaign]:
    """Campaigns that can go on without anybody's further doing, the longest untouched first."""
    waiting = {request.campaign for request in session.pending()}
    rows = session.store.campaigns.all()
    ready = [
        row
        for row in rows
        if row.status in (Status.RUNNING, Status.PARKED) or (row.status is Status.WAITING and row.id not in waiting)
    ]
    return sorted(ready, key=lambda row: row.updated)


async def work(session: Session, *, once: bool = False, poll_seconds: float = 1.0) -> AsyncGenerator[Event]:
    """Run what is due, one campaign at a time, and tell what happens.

    Args:
        session: an open session.
        once: return when nothing is due, instead of waiting for more.
        poll_seconds: how often to look.
    """
    while True:
        worked = False
        for row in due(session):
            try:
                async for event in session.stream(row.id):
                    worked = True
                    yield event
            except (Conflict, CampaignFinished):
                continue  # another process has it, or was faster
            except PawlError as error:
                yield Halted(campaign=row.id, reason=str(error))
        if once and not worked:
            return
        if not worked:
            await asyncio.sleep(poll_seconds)
