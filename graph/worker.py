"""Worker: the process behind `pawl work`, which takes on campaigns that are due.

Due is a campaign that needs nobody's doing to go on: one that waits at the gate and has been answered, and one that
was left in the middle, by a process that died, or that ended while a training job ran. What a person or a budget
stopped is not due; `pawl resume` goes on with that.

A worker runs one campaign at a time, and stays with it while its training job runs; start several to run several. They
don't get into each other's way, since a campaign's lease lets in one at a time.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import NamedTuple

from ..core import CampaignFinished, Conflict, PawlError
from ..release import Campaign, Status
from .events import Event, Halted
from .session import Session

LONGEST_PAUSE = 60.0
"""Seconds at the most until a campaign that could not be run is tried again; the first pause is a second."""


class _Pause(NamedTuple):
    reason: str
    seconds: float
    until: float


def due(session: Session) -> list[Campaign]:
    """Campaigns that can go on without anybody's further doing, the longest untouched first.

    One that another process runs at this moment is among them; its lease keeps others out.
    """
    waiting = {request.campaign for request in session.pending()}
    rows = session.store.campaigns.all()
    ready = [
        row
        for row in rows
        if row.status in (Status.RUNNING, Status.PARKED) or (row.status is Status.WAITING and row.id not in waiting)
    ]
    return sorted(ready, key=lambda row: row.updated)


async def work(session: Session, *, once: bool = False, poll_seconds: float = 1.0) -> AsyncGenerator[Event]:
    """Run what is due, one campaign at a time, and tell what happens, until `session.drain()`.

    A campaign that can't be run, since its graph has changed, say, or a stop is set, is told of once and tried again
    after a pause that doubles.

    Args:
        session: an open session.
        once: return when nothing is due, instead of waiting for more.
        poll_seconds: how often to look.
    """
    pauses: dict[str, _Pause] = {}
    with session.drainable() as control:
        while not control.drain_requested:
            worked = False
            for row in due(session):
                pause = pauses.get(row.id)
                if control.drain_requested or (pause is not None and time.monotonic() < pause.until):
                    continue
                try:
                    session.store.kill_switch.check(row.id)
                    async for event in session.stream(row.id):
                        worked = True
                        yield event
                    pauses.pop(row.id, None)
                except (Conflict, CampaignFinished):
                    continue  # another process has it, or was faster
                except PawlError as error:
                    seconds = min(2 * pause.seconds, LONGEST_PAUSE) if pause is not None else 1.0
                    pauses[row.id] = _Pause(str(error), seconds, time.monotonic() + seconds)
                    if pause is None or pause.reason != str(error):
                        yield Halted(campaign=row.id, reason=str(error))
            if not worked:
                if once:
                    return
                await asyncio.sleep(poll_seconds)
