"""One run of a campaign: from where its checkpoint stands until it waits, halts or ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command
from pydantic import JsonValue

from ..core import BudgetExhausted, CampaignChanged, Home, Stopped
from ..core.faults import point
from ..evals.judge_wire import Reveal
from ..nodes.context import Services
from ..nodes.rounds import RoundRow
from ..nodes.state import SCHEMA_VERSION, CampaignRules, State, StopReason
from ..release import Campaign, Status
from ..training.backend import JobHandle
from ..training.job import JobState
from .events import BudgetWarned, Event, Finished, Halted, NodeStarted, Parked, Progress, RoundFinished, Waiting
from .store import Store
from .tracing import RunTrace
from .views import describe


@dataclass(frozen=True)
class Run:
    """Drives the compiled graph of one campaign; whoever has one holds the campaign's lease."""

    home: Home
    store: Store
    row: Campaign
    graph: Any
    fingerprint: str
    services: Services
    control: RunControl
    trace: RunTrace

    async def events(self) -> AsyncGenerator[Event]:
        """Run on, and tell what happens."""
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    self.trace.saw(event)
                    yield event
        finally:
            self.trace.end()

    async def _events(self) -> AsyncGenerator[Event]:
        campaign, graph, services, control = self.row.id, self.graph, self.services, self.control
        config: Any = {"configurable": {"thread_id": campaign}, "recursion_limit": 10_000}
        await self._commit()
        snapshot = await graph.aget_state(config)
        if snapshot.values and not snapshot.next:  # it died between its last node and the closing of its books
            yield await self._finish(snapshot.values)
            return
        feed, unanswered = self._next_input(snapshot)
        if unanswered:  # it died before it had told anybody that it waits
            for event in unanswered:
                yield event
            self.store.campaigns.set_status(campaign, Status.WAITING, "for an answer at the gate")
            return
        self.store.campaigns.set_status(campaign, Status.RUNNING)
        while True:
            try:
                async for part in graph.astream(
                    feed,
                    config,
                    context=services,
                    stream_mode=["tasks", "custom"],
                    version="v2",
                    durability="sync",
                    control=control,
                ):
                    event = _event(campaign, part)
                    if event is not None:
                        yield event
            except (Stopped, BudgetExhausted, GraphDrained) as halt:
                reason = str(halt) or "drained"
                self.store.campaigns.set_status(campaign, Status.STOPPED, reason)
                yield Halted(campaign=campaign, reason=reason)
                return
            except asyncio.CancelledError:
                self.store.campaigns.set_status(campaign, Status.STOPPED, "interrupted")
                raise
            except Exception as error:
                self.store.campaigns.set_status(campaign, Status.FAILED, f"{type(error).__name__}: {error}")
                raise
            point("session.paused")
            snapshot = await graph.aget_state(config)
            if not snapshot.next:
                yield await self._finish(snapshot.values)
                return
            parked, waiting = self._sort_interrupts(snapshot.interrupts)
            for event in waiting:
                yield event
            if waiting:
                self.store.campaigns.set_status(campaign, Status.WAITING, "for an answer at the gate")
                return
            if not parked:  # drained between two nodes
                self.store.campaigns.set_status(campaign, Status.STOPPED, "drained")
                yield Halted(campaign=campaign, reason="drained")
                return
            for interrupt_id, event in parked.items():
                yield event
                async for progress in self._wait(event):
                    yield progress
                    if control.drain_requested:
                        self.store.campaigns.set_status(campaign, Status.PARKED, "interrupted while a job ran")
                        yield Halted(campaign=campaign, reason="a job was running; it is resumed")
                        return
                self.store.campaigns.unpark(campaign, interrupt_id)
            feed = Command(resume={interrupt_id: {"woken": True} for interrupt_id in parked})

    def _next_input(self, snapshot: Any) -> tuple[Any, list[Waiting]]:
        """What to feed the graph with, and what nobody has answered yet.

        The first state, a recorded answer, or nothing to go on where it was.
        """
        row = self.row
        if not snapshot.values and not snapshot.next:
            return self._first_state(), []
        values = snapshot.values
        if values.get("schema_version") != SCHEMA_VERSION or values.get("fingerprint") != self.fingerprint:
            raise CampaignChanged(changed(row.id))
        answers: dict[str, JsonValue] = {}
        unanswered: list[Waiting] = []
        for each in snapshot.interrupts:
            if each.value.get("kind") == "parked":
                self.store.campaigns.unpark(row.id, each.id)
                answers[each.id] = {"woken": True}
                continue
            request = each.value
            self.store.decisions.ask(row.id, each.id, request)
            answer = self.store.decisions.answer(row.id, each.id)
            if answer is None:
                unanswered.append(Waiting(campaign=row.id, request=each.id, description=describe(request)))
            else:
                answers[each.id] = answer.answer
                self.trace.answered(each.id, values.get("round", 0))
        return Command(resume=answers) if answers else None, unanswered

    async def _commit(self) -> None:
        """Have the judge commit itself to the sealed splits before anything is tried; once a campaign."""
        row = self.row
        rules = CampaignRules.model_validate(row.settings["rules"])
        commitment = await self.services.judge.commit(row.id, row.task, row.seed, rules.races)
        self.store.ledger.append(
            event_id=f"{row.id}/committed",
            kind="campaign.committed",
            campaign=row.id,
            body={"commitment": commitment.digest, "task": row.task, "seed": row.seed},
            trace_id=str(row.settings["trace_id"]),
        )

    def _first_state(self) -> State:
        row = self.row
        return State(
            schema_version=SCHEMA_VERSION,
            fingerprint=self.fingerprint,
            campaign=row.id,
            task=row.task,
            seed=row.seed,
            trace_id=str(row.settings["trace_id"]),
            rules=CampaignRules.model_validate(row.settings["rules"]),
            round=0,
        )

    def _sort_interrupts(self, interrupts: Iterable[Any]) -> tuple[dict[str, Parked], list[Waiting]]:
        campaign = self.row.id
        parked: dict[str, Parked] = {}
        waiting: list[Waiting] = []
        for each in interrupts:
            if each.value.get("kind") == "parked":
                self.store.campaigns.park(campaign, each.id, each.value, time.time())
                self.store.campaigns.set_status(campaign, Status.PARKED, f"for job {each.value['job']}")
                parked[each.id] = Parked(campaign=campaign, job=each.value["job"])
            else:
                request = each.value
                self.store.decisions.ask(campaign, each.id, request)
                waiting.append(Waiting(campaign=campaign, request=each.id, description=describe(request)))
        return parked, waiting

    async def _wait(self, parked: Parked) -> AsyncIterator[Event]:
        """Report a job's progress until it has ended."""
        trainer = self.services.trainer
        if trainer is None:
            return
        handle = JobHandle(id=parked.job, run_dir=self.home.runs / parked.job)
        last = -1
        while True:
            status = trainer.poll(handle)
            if status.state.finished or status.state is JobState.LOST:
                return
            if status.step != last:
                last = status.step
                yield Progress(
                    campaign=parked.campaign,
                    node="trainer",
                    text=f"training step {status.step}/{status.total_steps}",
                    done=status.step,
                    total=status.total_steps,
                )
            await asyncio.sleep(0.1)

    async def _finish(self, values: Mapping[str, Any]) -> Finished:
        """Open what was sealed, close the books."""
        row = self.row
        reveal = await self.services.judge.reveal(row.id)
        self.trace.revealed(reveal)
        for race in reveal.races:
            self.services.meter.reveal(row.id, race.key, race.usage)
        self.store.ledger.append(
            event_id=f"{row.id}/revealed",
            kind="campaign.revealed",
            campaign=row.id,
            body={"reveal": self.store.artifacts.put_json(_repeatable(reveal))},
            trace_id=values["trace_id"],
        )
        stop = StopReason(values["stop"])
        self.store.campaigns.set_status(row.id, Status.FINISHED, stop.value)
        return Finished(campaign=row.id, reason=stop, live=values["live"])


def changed(campaign: str) -> str:
    """What to tell whoever resumes a campaign with another graph."""
    return (
        f"Campaign {campaign} was started with another graph: nodes, ways or state keys differ from today's. "
        "Resume it with the same code and plug-ins as at its start, or start a new campaign; "
        "what it has promoted stays."
    )


def _repeatable(reveal: Reveal) -> dict[str, JsonValue]:
    """The reveal as it is in every equal run."""
    races = [race.model_copy(update={"usage": race.usage.repeatable}) for race in reveal.races]
    return reveal.model_copy(update={"races": races}).model_dump(mode="json")


def _event(campaign: str, part: Any) -> Event | None:
    """LangGraph's stream part as one of our events, or none where it is nobody's business."""
    data = part["data"]
    if part["type"] == "tasks":
        return NodeStarted(campaign=campaign, node=data["name"]) if "input" in data else None
    if data.get("kind") == "round":
        return RoundFinished(campaign=campaign, row=RoundRow.model_validate(data["row"]))
    if data.get("kind") == "budget":
        return BudgetWarned(campaign=campaign, **{key: value for key, value in data.items() if key != "kind"})
    if data.get("kind") == "progress":
        return Progress(campaign=campaign, **{key: value for key, value in data.items() if key != "kind"})
    return None
