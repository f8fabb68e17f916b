"""One thread for the engine, and batches in front of it.

Requests that say which batch they belong to wait, up to two seconds, until all of its members are there. Whatever
waits when the engine falls idle runs together; the engine's answers don't depend on that (see attention.py).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from .sampling import Answer, Request

T = TypeVar("T")

WAIT_SECONDS = 2.0
LARGEST = 128
"""Requests run together, unless one batch alone has more."""


class Draws(Protocol):
    """What the batcher needs of an engine."""

    def run(self, requests: Sequence[Request]) -> list[Answer]:
        """Draw one answer to each request."""
        ...


@dataclass(frozen=True)
class Member:
    """Where a request belongs."""

    batch: str
    size: int
    index: int


@dataclass
class _Job:
    requests: list[Request]
    done: asyncio.Future[list[Answer]]


@dataclass
class _Group:
    jobs: dict[int, _Job] = field(default_factory=dict[int, _Job])
    full: asyncio.Event = field(default_factory=asyncio.Event)


class Batcher:
    """Collects requests and runs them on the engine's thread."""

    def __init__(self, engine: Draws) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._waiting: list[_Job] = []
        self._groups: dict[str, _Group] = {}
        self._pump: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, function: Callable[[], T]) -> T:
        """Run something else on the engine's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def submit(self, requests: list[Request], member: Member | None) -> list[Answer]:
        """Draw answers, with the batch that the request belongs to."""
        job = _Job(requests, asyncio.get_running_loop().create_future())
        if member is None:
            self._enqueue([job])
        else:
            group = self._groups.get(member.batch)
            if group is None or member.index in group.jobs:
                group = self._groups[member.batch] = _Group()
                task = asyncio.create_task(self._collect(member.batch, group))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            group.jobs[member.index] = job
            if len(group.jobs) >= member.size:
                group.full.set()
        return await job.done

    async def _collect(self, batch: str, group: _Group) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(group.full.wait(), WAIT_SECONDS)
        if self._groups.get(batch) is group:
            del self._groups[batch]
        self._enqueue([group.jobs[index] for index in sorted(group.jobs)])

    def _enqueue(self, jobs: list[_Job]) -> None:
        self._waiting.extend(jobs)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            chosen: list[_Job] = []
            count = 0
            while self._waiting and (not chosen or count + len(self._waiting[0].requests) <= LARGEST):
                chosen.append(self._waiting.pop(0))
                count += len(chosen[-1].requests)
            chosen = [job for job in chosen if not job.done.cancelled()]
            await self._draw(chosen)

    async def _draw(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        requests = [request for job in jobs for request in job.requests]
        try:
            started = time.process_time()
            answers = await self.call(lambda: self._engine.run(requests))
            share = (time.process_time() - started) / len(requests)
            for answer in answers:
                answer.cpu_seconds = share
        except Exception as error:
            if len(jobs) > 1:  # the others must not fail for one that can't be answered
                for job in jobs:
                    await self._draw([job])
            elif not jobs[0].done.cancelled():
                jobs[0].done.set_exception(error)
            return
        at = 0
        for job in jobs:
            if not job.done.cancelled():
                job.done.set_result(answers[at : at + len(job.requests)])
            at += len(job.requests)
