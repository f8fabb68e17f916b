"""The session without an event loop: the same methods, each run to its end on a loop of its own.

with Session.sync(home=".pawl") as session:
    status = session.start("trimul")
    for event in session.stream(status.campaign):
        print(event)
"""

import asyncio
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pydantic import JsonValue

from ..nodes.state import CampaignRules
from ..release import Campaign, Move, Pointer
from ..safety.budget import Budget
from .events import Event

if TYPE_CHECKING:
    from .costs import CostReport
    from .report import CampaignReport
    from .session import Session
    from .views import CampaignStatus, Checkpoint, Request


class SyncSession:
    """A blocking twin of `Session`; not for use inside a running event loop."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._runner.run(self._session.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self._session.__aexit__(kind, error, trace))
        finally:
            self._runner.__exit__(kind, error, trace)

    def start(
        self,
        task: str,
        *,
        rules: CampaignRules | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        campaign: str | None = None,
    ) -> "CampaignStatus":
        """See `Session.start`."""
        return self._runner.run(self._session.start(task, rules=rules, seed=seed, budget=budget, campaign=campaign))

    def create(
        self,
        task: str,
        *,
        rules: CampaignRules | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        campaign: str | None = None,
    ) -> str:
        """See `Session.create`."""
        return self._session.create(task, rules=rules, seed=seed, budget=budget, campaign=campaign)

    def resume(self, campaign: str, *, budget: Budget | None = None) -> "CampaignStatus":
        """See `Session.resume`."""
        return self._runner.run(self._session.resume(campaign, budget=budget))

    def stream(self, campaign: str, *, budget: Budget | None = None, wait: bool = False) -> Generator[Event]:
        """See `Session.stream`."""
        events = self._session.stream(campaign, budget=budget, wait=wait)
        try:
            while True:
                try:
                    yield self._runner.run(anext(events))  # pyright: ignore[reportArgumentType]
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(events.aclose())

    def pending(self, campaign: str | None = None) -> "list[Request]":
        """See `Session.pending`."""
        return self._session.pending(campaign)

    def approve(self, campaign: str, request: str, *, by: str, reason: str) -> None:
        """See `Session.approve`."""
        self._session.approve(campaign, request, by=by, reason=reason)

    def reject(self, campaign: str, request: str, *, by: str, reason: str) -> None:
        """See `Session.reject`."""
        self._session.reject(campaign, request, by=by, reason=reason)

    def respond(self, campaign: str, request: str, *, by: str, message: str) -> None:
        """See `Session.respond`."""
        self._session.respond(campaign, request, by=by, message=message)

    def edit(self, campaign: str, request: str, *, by: str, reason: str, files: Mapping[str, str]) -> None:
        """See `Session.edit`."""
        self._session.edit(campaign, request, by=by, reason=reason, files=files)

    def answer(self, campaign: str, request: str, answer: Mapping[str, JsonValue]) -> None:
        """See `Session.answer`."""
        self._session.answer(campaign, request, answer)

    def status(self, campaign: str) -> "CampaignStatus":
        """See `Session.status`."""
        return self._session.status(campaign)

    def history(self, campaign: str) -> "list[Checkpoint]":
        """See `Session.history`."""
        return self._runner.run(self._session.history(campaign))

    def fork(
        self, campaign: str, checkpoint: str, *, rules: CampaignRules | None = None, name: str | None = None
    ) -> str:
        """See `Session.fork`."""
        return self._runner.run(self._session.fork(campaign, checkpoint, rules=rules, name=name))

    def costs(self, campaign: str) -> "CostReport":
        """See `Session.costs`."""
        return self._runner.run(self._session.costs(campaign))

    def report(self, campaign: str) -> "CampaignReport":
        """See `Session.report`."""
        return self._runner.run(self._session.report(campaign))

    def campaigns(self) -> list[Campaign]:
        """See `Session.campaigns`."""
        return self._session.campaigns()

    def moves(self, campaign: str) -> list[Move]:
        """See `Session.moves`."""
        return self._session.moves(campaign)

    def live_tasks(self) -> list[str]:
        """See `Session.live_tasks`."""
        return self._session.live_tasks()

    def rollback(self, task: str, *, by: str, reason: str, version: str | None = None) -> Pointer:
        """See `Session.rollback`."""
        return self._session.rollback(task, by=by, reason=reason, version=version)

    def stop(self, *, by: str, reason: str, campaign: str | None = None) -> None:
        """See `Session.stop`."""
        self._session.stop(by=by, reason=reason, campaign=campaign)

    def go(self, *, by: str, campaign: str | None = None) -> bool:
        """See `Session.go`."""
        return self._session.go(by=by, campaign=campaign)
