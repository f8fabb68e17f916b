"""Compilations and counts of one source's kernels, several of them to a process.

    batch = Batch(ask, slots, at_once=2)
    answers = await asyncio.gather(*(batch.ask("compile", module, job) for module, job in jobs))

What a process takes to begin and to end is as much as counting a kernel in it. Each process gets a part of what waits,
so that cores which are free share the rest. Where one fails, each of its jobs is asked again alone, so that none
answers for another.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

Json = dict[str, Any]

MOST = 4
"""Jobs to a process: where one of them fails, the others have run in vain."""


@dataclass(eq=False)
class _Job:
    module: str
    job: Json
    alone: bool
    told: "asyncio.Future[Json]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batch:
    """Jobs on the kernels of one source; those of different sources never share a process."""

    def __init__(self, ask: Callable[[str, Json], Awaitable[Json]], slots: asyncio.Semaphore, at_once: int) -> None:
        """Say where to.

        Args:
            ask: sends a request of a kind to a fresh process.
            slots: one is held during a request.
            at_once: how many there are.
        """
        self._ask, self._slots, self._at_once = ask, slots, at_once
        self._waiting: dict[str, list[_Job]] = {}
        self._senders: set[asyncio.Task[None]] = set()

    async def ask(self, kind: str, module: str, job: Json, *, alone: bool = False) -> Json:
        """Have a job on a kernel of `module` done, along with others unless it is to be alone.

        Returns:
            `{"answers": [answer]}`; `{"error": [code, detail]}` where its process failed.
        """
        mine = _Job(module, job, alone)
        waiting = self._waiting.setdefault(kind, [])
        waiting.append(mine)
        if len(waiting) <= self._at_once:
            sender = asyncio.create_task(self._send(kind))
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        try:
            return await mine.told
        finally:
            if mine in waiting:  # nobody waits for it any more
                waiting.remove(mine)

    async def _send(self, kind: str) -> None:
        """Ask for what waits until nothing does."""
        await asyncio.sleep(0)  # what is asked at the same time goes along
        while self._waiting[kind]:
            async with self._slots:
                jobs = self._taken(self._waiting[kind])
                try:
                    await self._tell(kind, jobs)
                except BaseException as error:
                    for each in jobs:
                        if not each.told.done():
                            each.told.set_exception(error)
                    if not isinstance(error, Exception):
                        raise

    def _taken(self, waiting: list[_Job]) -> list[_Job]:
        count = min(-(-len(waiting) // self._at_once), MOST)
        whole = next((place for place in range(count) if waiting[place].alone), count)
        jobs = waiting[: max(whole, 1)] if waiting else []
        del waiting[: len(jobs)]
        return jobs

    async def _tell(self, kind: str, jobs: list[_Job]) -> None:
        if not jobs:
            return
        modules = list(dict.fromkeys(each.module for each in jobs))
        asked = [{"module": modules.index(each.module), **each.job} for each in jobs]
        answer = await self._ask(kind, {"kind": kind, "modules": modules, "jobs": asked})
        parts = answer.get("answers")
        if len(jobs) == 1:
            answers = [answer]
        elif isinstance(parts, list) and len(cast("list[Json]", parts)) == len(jobs):
            answers = [{"answers": [part]} for part in cast("list[Json]", parts)]
        else:
            for each in jobs:
                each.alone = True
            self._waiting[kind][:0] = [each for each in jobs if not each.told.done()]
            return
        for each, told in zip(jobs, answers, strict=True):
            if not each.told.done():
                each.told.set_result(told)
