"""One run of a campaign: from where its checkpoint stands until it waits, halts or ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command
from pydantic import JsonValue

from ..core import BudgetExhausted, CampaignChanged, Home, HomeDamaged, LeaseLost, SealBroken, Stopped
from ..core.faults import point
from ..evals.judge_wire import Reveal
from ..evals.races import Race
from ..evals.reveal import check_reveal
from ..nodes.charging import charge_of
from ..nodes.context import Services
from ..nodes.rounds import RoundRow
from ..nodes.state import SCHEMA_VERSION, CampaignRules, State, StopReason
from ..release import Campaign, EventKind, Status
from ..safety.budget import Charge, Scope
from ..training.backend import JobHandle
from ..training.job import JobState
from .boundary import Overtaken, check_boundary, check_lease
from .events import BudgetWarned, Event, Finished, Halted, NodeStarted, Parked, Progress, RoundFinished, Waiting
from .forks import begin_fork
from .store import Store
from .tracing import RunTrace
from .views import describe

ASK_SECONDS = 1.0
"""How often a campaign that waits for a job asks whether it may go on waiting."""

LEAVE_SECONDS = 5.0
"""How long a halt waits for a job to finish its step and leave."""


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
        """Run on, and tell what happens.

        Raises:
            LeaseLost: another process has taken the campaign over; this one writes nothing more about it.
        """
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    self.trace.saw(event)
                    yield event
        except Overtaken as gone:
            raise LeaseLost(str(gone)) from gone
        finally:
            self.trace.end()

    async def _events(self) -> AsyncGenerator[Event]:
        campaign, graph, services, control = self.row.id, self.graph, self.services, self.control
        config: Any = {"configurable": {"thread_id": campaign}, "recursion_limit": 10_000}
        snapshot = await self._begun(config)
        await self._commit()
        if snapshot.values and not snapshot.next:  # it died between its last node and the closing of its books
            yield await self._finish(snapshot.values)
            return
        feed, unanswered = self._next_input(snapshot)
        if unanswered:  # it died before it had told anybody that it waits
            for event in unanswered:
                yield event
            self._became(Status.WAITING, "for an answer at the gate")
            return
        self._became(Status.RUNNING)
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
                yield self._halt(Status.STOPPED, str(halt))
                return
            except asyncio.CancelledError:
                self._became(Status.STOPPED, "interrupted")
                raise
            except Exception as error:
                self._became(Status.FAILED, f"{type(error).__name__}: {error}")
                raise
            point("session.paused")
            check_lease(services)
            snapshot = await graph.aget_state(config)
            if not snapshot.next:
                yield await self._finish(snapshot.values)
                return
            parked, waiting = self._sort_interrupts(snapshot.interrupts)
            for event in waiting:
                yield event
            if waiting:
                self._became(Status.WAITING, "for an answer at the gate")
                return
            if not parked:  # drained between two nodes
                yield self._halt(Status.STOPPED, "drained")
                return
            charge = charge_of(snapshot.values, "trainer")
            try:
                for event in parked.values():
                    yield event
                    async for progress in self._wait(event, charge):
                        yield progress
            except (Stopped, BudgetExhausted) as halt:
                yield self._halt(Status.STOPPED, str(halt))
                return
            except GraphDrained:
                yield self._halt(Status.PARKED, "interrupted while a job ran, which goes on from its last step")
                return
            self._became(Status.RUNNING)
            point("campaign.woken")
            feed = Command(resume={interrupt_id: {"woken": True} for interrupt_id in parked})

    def _became(self, status: Status, reason: str | None = None) -> None:
        """Say where the campaign is, unless that is no longer this process's to say."""
        if self.services.lease is None or not self.services.lease.lost:
            self.store.campaigns.set_status(self.row.id, status, reason)

    def _halt(self, status: Status, reason: str) -> Halted:
        self._became(status, reason)
        return Halted(campaign=self.row.id, reason=reason)

    async def _begun(self, config: Any) -> Any:
        """The campaign's last saved state, empty where it has none yet; a fork has the state that it begins from.

        Raises:
            HomeDamaged: the checkpoints are another campaign's, or gone though the ledger has what it did.
        """
        row = self.row
        snapshot = await self.graph.aget_state(config)
        if snapshot.values and snapshot.values.get("trace_id") != row.settings["trace_id"]:
            raise HomeDamaged(
                f"The checkpoints in {self._checkpoints} are of another campaign {row.id!r}: they and the database "
                "are not of one home. Restore both from the same backup, or start this campaign under another name "
                "with --campaign, or in another home with --home."
            )
        if snapshot.values or snapshot.next:
            return snapshot
        if any(event.kind != EventKind.CAMPAIGN_COMMITTED for event in self.store.ledger.events(row.id)):
            raise HomeDamaged(
                f"The ledger has what campaign {row.id} did, but {self._checkpoints} no longer has where it stood. "
                "Restore the checkpoints from a backup, or start another campaign; what was promoted stays live."
            )
        await begin_fork(self.graph, self.store, row)
        return await self.graph.aget_state(config)

    @property
    def _checkpoints(self) -> str:
        return str(self.home.checkpoints) if self.store.db.is_sqlite else "the database"

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
                point("campaign.woken")
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
        row, judge = self.row, self.services.judge
        rules = CampaignRules.model_validate(row.settings["rules"])
        for event in self.store.ledger.events(row.id):
            if event.kind == EventKind.CAMPAIGN_COMMITTED:
                judge.recall(str(event.body["commitment"]), row.id, row.task, row.seed, rules.races)
                return
        commitment = await judge.commit(row.id, row.task, row.seed, rules.races)
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
                self._became(Status.PARKED, f"for job {each.value['job']}")
                point("campaign.parked")
                parked[each.id] = Parked(campaign=campaign, job=each.value["job"])
            else:
                request = each.value
                self.store.decisions.ask(campaign, each.id, request)
                waiting.append(Waiting(campaign=campaign, request=each.id, description=describe(request)))
        return parked, waiting

    async def _wait(self, parked: Parked, charge: Charge) -> AsyncIterator[Event]:
        """Report a job's progress until it has ended.

        Where the campaign may not go on, the job is asked to stop after its step; resuming the campaign takes it on
        from there. The job of a campaign that was taken over is left to whoever has it now.

        Raises:
            Overtaken, Stopped, LimitReached: from the boundary.
            GraphDrained: a drain was asked for.
        """
        trainer = self.services.trainer
        if trainer is None:
            return
        handle = JobHandle(id=parked.job, run_dir=self.home.runs / parked.job)
        last, asked = -1, 0.0
        while True:
            status = trainer.poll(handle)
            if status.state.finished or status.state is JobState.LOST:
                return
            try:
                if self.control.drain_requested:
                    raise GraphDrained(self.control.drain_reason or "asked to stop")
                if time.monotonic() - asked >= ASK_SECONDS:
                    asked = time.monotonic()
                    check_boundary(self.services, charge, (Scope.CAMPAIGN, Scope.DAY))
            except (Stopped, BudgetExhausted, GraphDrained):
                trainer.cancel(handle)
                with suppress(TimeoutError):
                    await asyncio.wait_for(trainer.wait(handle), LEAVE_SECONDS)
                raise
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
        check_lease(self.services)
        reveal = await self.services.judge.reveal(row.id)
        differences = check_reveal(reveal, **self._promised())
        self.trace.revealed(reveal)
        for race in reveal.races:
            self.services.meter.reveal(row.id, race.key, race.usage)
        self.store.ledger.append(
            event_id=f"{row.id}/revealed",
            kind="campaign.revealed",
            campaign=row.id,
            body={"reveal": self.store.artifacts.put_json(_repeatable(reveal)), "differs": [*differences]},
            trace_id=values["trace_id"],
        )
        if differences:
            broken = SealBroken(
                f"The judge revealed something else than it had promised for campaign {row.id}: "
                f"{'; '.join(differences)}. Trust no outcome of its sealed races: roll back what it promoted, and see "
                "who could write to the judge's folder."
            )
            self._became(Status.FAILED, str(broken))
            raise broken
        stop = StopReason(values["stop"])
        self.store.campaigns.set_status(row.id, Status.FINISHED, stop.value)
        return Finished(campaign=row.id, reason=stop, live=values["live"])

    def _promised(self) -> dict[str, Any]:
        """The digests that the ledger has had since before the reveal."""
        events = self.store.ledger.events(self.row.id)
        [commitment] = [str(event.body["commitment"]) for event in events if event.kind == "campaign.committed"]
        evidence = {
            f"{event.kind.removeprefix('race.')} race of {str(event.body['version'])[:12]}": str(event.body["evidence"])
            for event in events
            if event.kind in (f"race.{Race.HOLDOUT}", f"race.{Race.ADVERSARIAL}") and event.body["evidence"]
        }
        return {"commitment": commitment, "evidence": evidence}


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
