"""Watching a campaign: live on a terminal, plain lines when piped, JSON lines for programs."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import typer

from ..graph.events import BudgetWarned, Event, Finished, Halted, NodeStarted, Parked, Progress, RoundFinished, Waiting
from ..safety.budget.limits import option
from .common import print_json
from .rounds import HEADINGS, round_row

if TYPE_CHECKING:
    from ..graph.session import Session


class Watcher(Protocol):
    """Shows events as they come."""

    def note(self, text: str) -> None:
        """Show a line of our own."""
        ...


class Watch:
    """For people."""

    def __init__(self, session: "Session") -> None:
        from rich.console import Console

        self._session = session
        self._console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
        self._status = self._console.status("starting") if sys.stdout.isatty() else None
        self._last = ""

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def note(self, text: str) -> None:
        """Show a line of our own."""
        self._console.print(text)

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case NodeStarted():
                self._now(f"{event.campaign}: {event.node}")
            case Progress():
                self._now(f"{event.campaign}: {event.node}: {event.text}", event.done == event.total)
            case Parked():
                self._now(f"{event.campaign}: training job {event.job} runs", True)
            case RoundFinished():
                for heading, value in zip(HEADINGS, round_row(event.row), strict=True):
                    self._console.print(f"  {heading:<9} {value}")
                self._console.print()
            case BudgetWarned():
                self._console.print(
                    f"{event.campaign}: 80 % of a budget are spent: {event.spent} of {event.limit} "
                    f"({event.scope.value}.{event.dimension.value}). Raise it with: pawl resume {event.campaign} "
                    f"{option(event.scope, event.dimension)}"
                )
            case Waiting():
                self._console.print(f"\n{event.description}\n\n{event.campaign} waits. Answer with one of:")
                self._console.print(f"  pawl approve {event.campaign} {event.request[:8]} --as NAME --reason TEXT")
                self._console.print(f"  pawl reject {event.campaign} {event.request[:8]} --as NAME --reason TEXT")
            case Halted():
                self._console.print(f"{event.campaign} halted: {event.reason}\nResume: pawl resume {event.campaign}")
            case Finished():
                self._console.print(f"{event.campaign} ended ({event.reason.value}); live is {event.live[:12]}.")

    def _now(self, text: str, whole: bool = False) -> None:
        """What is going on: a moving line on a terminal, else one line a step."""
        if self._status is not None:
            self._status.update(text)
        elif text != self._last and (whole or ":" not in text.partition(": ")[2]):
            self._console.print(text)
            self._last = text

    async def conclude(self, session: "Session", campaign: str) -> None:
        """Print the rounds as a table, what each lever cost, and what the task has to show for it."""
        from .campaigns import print_rounds
        from .costs import print_levers
        from .showcase import show_best

        if self._status is not None:
            self._status.stop()
        status = session.status(campaign)
        if status.rounds:
            print_rounds(status)
            await print_levers(session, campaign)
        await show_best(session, campaign)


class JsonWatch:
    """For programs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def note(self, text: str) -> None:
        """Notes are for people; standard error keeps them out of the JSON."""
        typer.echo(text, err=True)

    def show(self, event: Event) -> None:
        """Print one event."""
        print_json(event)

    async def conclude(self, session: "Session", campaign: str) -> None:
        """Print where the campaign is."""
        print_json({"kind": "status", **session.status(campaign).model_dump(mode="json")})


@asynccontextmanager
async def draining(session: "Session", watch: Watcher) -> AsyncGenerator[None]:
    """Let the first Ctrl-C or SIGTERM finish the current step, and the second stop at once; both are resumable."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked and task is not None:
            task.cancel()
            return
        asked = True
        watch.note("Finishing the current step; once more stops at once. Either way the campaign can be resumed.")
        session.drain("asked by a signal")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    except asyncio.CancelledError:
        watch.note("Stopped. Go on with `pawl resume`.")
        raise KeyboardInterrupt from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
