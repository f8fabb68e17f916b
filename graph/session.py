"""Session: start, watch, answer, resume, fork and undo campaigns.

    async with Session(home=".pawl") as session:
        status = await session.start("trimul", rules=CampaignRules(rounds=2))
        for request in session.pending():
            session.approve(request.campaign, request.id, by="ada", reason="the races look right")
        status = await session.resume(status.campaign)

`Session.sync(...)` is the same for code without an event loop. What LangGraph leaves open is refused here, each time
with what to do: an unknown or empty answer, a second one, new input for a paused campaign, resuming a finished one
or one whose graph has changed, and two processes that run the same campaign.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from langgraph.runtime import RunControl
from pydantic import JsonValue

from ..core import (
    CampaignChanged,
    CampaignFinished,
    ConfigurationError,
    Conflict,
    Home,
    PawlError,
    Settings,
    Trajectory,
)
from ..evals.bills import for_model
from ..evals.registry import declared_metric
from ..evals.showcase import Showcase, ShowsBest
from ..evals.task import Metric
from ..nodes.journal import load_trajectories
from ..nodes.rounds import RoundRow
from ..nodes.spec import NodeSpec
from ..nodes.state import SCHEMA_VERSION, CampaignRules
from ..release import Campaign, Channel, Lease, Move, Pointer, Status
from ..safety.budget import Budget
from .answers import check_edit, parse_answer
from .builder import build_graph, fingerprint
from .checkpoints import open_saver
from .costs import CostReport, cost_report
from .events import Event
from .forks import begin_fork, find_state
from .plugins import plugin_nodes
from .report import CampaignReport, gather
from .rollback import roll_back
from .run import Run, changed
from .services import Factory, LocalFactory
from .store import Store
from .tracing import traced
from .views import CampaignStatus, Checkpoint, Request, describe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHOWN = 24
"""How many of the best trajectories a task chooses its showpiece from."""


class Session:
    """The facade over graph, checkpoints and services of one home.

    Args:
        home: folder of the home; the setting `PAWL_HOME` where none is given.
        settings: where the model and the database are.
        nodes: further nodes, beside those that installed packages register.
        factory: builds the services that a campaign runs on; give another one to swap a whole layer.
        plugins: whether to load the nodes of installed packages.

    Raises:
        HomeDamaged: on entry, when the home or its database can't be used.
    """

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        settings: Settings | None = None,
        nodes: Sequence[NodeSpec] = (),
        factory: Factory | None = None,
        plugins: bool = True,
    ) -> None:
        self.settings = settings or Settings()
        self.home = Home(Path(home) if home is not None else self.settings.home)
        self._nodes = [*(plugin_nodes() if plugins else []), *nodes]
        self._factory = factory or LocalFactory()
        self._stack = AsyncExitStack()
        self._controls: set[RunControl] = set()

    @classmethod
    def sync(cls, home: Path | str | None = None, **options: Any) -> "Any":
        """The same session for code without an event loop; see `pawl.graph.sync`."""
        from .sync import SyncSession

        return SyncSession(cls(home, **options))

    async def __aenter__(self) -> Self:
        self.home.create()
        self.store = Store(self.home, self.settings.database_url)
        self._stack.callback(self.store.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # Starting and running

    def create(
        self,
        task: str,
        *,
        rules: CampaignRules | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        campaign: str | None = None,
    ) -> str:
        """Register a campaign without running it, and return its id.

        Raises:
            NotFound: no task of that name is registered.
            ConfigurationError: the id or the seed is none that can be kept.
            Conflict: the id is taken by a campaign that was started otherwise.
        """
        self._factory.check_task(task)
        if not 0 <= seed < 1 << 63:
            raise ConfigurationError(f"The seed {seed} is out of range: expected 0 to 2**63 - 1.")
        rules = rules or CampaignRules()
        races = for_model(rules.races, capable=self.settings.model_url is not None)
        settings: dict[str, JsonValue] = {
            "rules": rules.model_copy(update={"races": races}).model_dump(mode="json"),
            "budget": (budget or Budget()).model_dump(mode="json"),
        }
        return self._register(task, seed, settings, campaign)

    async def start(
        self,
        task: str,
        *,
        rules: CampaignRules | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        campaign: str | None = None,
    ) -> CampaignStatus:
        """Create a campaign and run it until it waits, halts or ends."""
        return await self.resume(self.create(task, rules=rules, seed=seed, budget=budget, campaign=campaign))

    async def resume(self, campaign: str, *, budget: Budget | None = None) -> CampaignStatus:
        """Run a campaign on until it waits, halts or ends; see `stream` for what is refused."""
        async for _ in self.stream(campaign, budget=budget):
            pass
        return self.status(campaign)

    async def stream(self, campaign: str, *, budget: Budget | None = None, wait: bool = False) -> AsyncGenerator[Event]:
        """Run a campaign on, and tell what happens.

        A recorded answer is applied, a parked job is awaited; what was done before a crash is not done again.

        Args:
            campaign: id of a campaign that has not ended.
            budget: new limits, where the old ones were used up.
            wait: stay at the gate until somebody answers, instead of returning there.

        Raises:
            NotFound: there is no such campaign.
            CampaignFinished: it has ended.
            CampaignChanged: the graph or the schema is not the one it was started with.
            Conflict: another process runs it, or it waits for an answer that nobody has given.
        """
        row = self._check(self.store.campaigns.get(campaign))
        waiting = [] if wait else self.pending(campaign)
        if waiting:
            raise Conflict(
                f"Campaign {campaign} waits for an answer to {waiting[0].id[:8]}. Give one: "
                f"pawl approve {campaign} {waiting[0].id[:8]} --as NAME --reason TEXT (or reject); then resume."
            )
        if budget is not None:
            self.store.set_budget(campaign, budget)
        with self.drainable() as control:
            while True:
                if wait:
                    await self._answered(campaign, control)
                if control.drain_requested:
                    return
                with Lease(self.store.db, campaign) as lease:
                    async for event in self._run(row, control, lease):
                        yield event
                if not wait or self.store.campaigns.get(campaign).status is not Status.WAITING:
                    return

    async def _answered(self, campaign: str, control: RunControl) -> None:
        """Return once nothing of a campaign waits for a person, or a drain is asked for."""
        while self.pending(campaign) and not control.drain_requested:  # noqa: ASYNC110 - another process answers
            await asyncio.sleep(0.2)

    def budget(self, campaign: str) -> Budget:
        """The limits of a campaign."""
        return self.store.budget(campaign)

    def drain(self, reason: str = "asked to stop") -> None:
        """Ask every campaign that this session runs to halt after its current step, and its worker to end."""
        for control in self._controls:
            control.request_drain(reason)

    @contextmanager
    def drainable(self) -> Generator[RunControl]:
        """A control that `drain` reaches while the context is open."""
        control = RunControl()
        self._controls.add(control)
        try:
            yield control
        finally:
            self._controls.discard(control)

    # Answering

    def pending(self, campaign: str | None = None) -> list[Request]:
        """What waits for a person, in one campaign or in all."""
        return [
            Request(
                id=each.interrupt_id,
                campaign=each.thread,
                asked=each.asked,
                description=describe(each.request),
                request=each.request,
            )
            for each in self.store.decisions.pending(campaign)
        ]

    def approve(self, campaign: str, request: str, *, by: str, reason: str) -> None:
        """Record that the candidate may be promoted; `resume` or `pawl work` carries it out.

        Raises:
            NotFound: nothing of that id was asked.
            Conflict: it has been answered already.
        """
        self.answer(campaign, request, {"decisions": [{"type": "approve"}], "actor": by, "reason": reason})

    def reject(self, campaign: str, request: str, *, by: str, reason: str) -> None:
        """Record that the candidate is to be discarded."""
        self.answer(campaign, request, {"decisions": [{"type": "reject", "message": reason}], "actor": by})

    def respond(self, campaign: str, request: str, *, by: str, message: str) -> None:
        """Discard the candidate and give the Feedback-Agent something to read before its next decision."""
        self.answer(campaign, request, {"decisions": [{"type": "respond", "message": message}], "actor": by})

    def edit(self, campaign: str, request: str, *, by: str, reason: str, files: Mapping[str, str]) -> None:
        """Replace files of the candidate's scaffold; the result is a new candidate, which races again."""
        action: dict[str, JsonValue] = {"name": "promote", "args": {"files": dict(files)}}
        self.answer(
            campaign,
            request,
            {"decisions": [{"type": "edit", "edited_action": action}], "actor": by, "reason": reason},
        )

    def answer(self, campaign: str, request: str, answer: Mapping[str, JsonValue]) -> None:
        """Record an answer in LangChain's shape, with `actor` and `reason`.

        Raises:
            ConfigurationError: the answer is empty or not of that shape; nothing is recorded.
            NotFound: nothing of that id was asked in this campaign.
            Conflict: it has been answered already, perhaps at this very moment by somebody else.
        """
        self._check(self.store.campaigns.get(campaign))
        response = parse_answer(answer)
        matching = [each for each in self.pending(campaign) if request and each.id.startswith(request)]
        if len(matching) > 1:
            raise ConfigurationError(f"{request!r} fits {len(matching)} requests. Give more of the id.")
        for each in matching:
            check_edit(self.store, each, response)
        full = matching[0].id if matching else self.store.full_request_id(campaign, request)
        self.store.decisions.record(campaign, full, response.model_dump(mode="json"), response.actor)

    # Looking and undoing

    def status(self, campaign: str) -> CampaignStatus:
        """Where a campaign is, its rounds, what waits, and what it spent."""
        row = self.store.campaigns.get(campaign)
        pointer = self.store.channels.get(row.task, Channel.LIVE)
        return CampaignStatus(
            campaign=row.id,
            task=row.task,
            seed=row.seed,
            status=row.status,
            reason=row.reason,
            live=pointer.version if pointer is not None else None,
            rounds=[RoundRow.model_validate(each) for each in self.store.campaigns.rounds(campaign).values()],
            pending=self.pending(campaign),
            spent=self.store.meter.spent(campaign),
            nano_dollars=self.store.meter.money(campaign),
        )

    async def history(self, campaign: str) -> list[Checkpoint]:
        """The saved states of a campaign, newest first."""
        self.store.campaigns.get(campaign)
        async with self._graph() as graph:
            return [
                Checkpoint(
                    id=each.config["configurable"]["checkpoint_id"],
                    created=str(each.created_at),
                    round=each.values.get("round", 0),
                    next=list(each.next),
                )
                async for each in graph.aget_state_history({"configurable": {"thread_id": campaign}})
            ]

    async def fork(
        self, campaign: str, checkpoint: str, *, rules: CampaignRules | None = None, name: str | None = None
    ) -> str:
        """Start a new campaign from a saved state of another, and return its id; `resume` runs it.

        The fork has its own operations, sealed items and account. Nothing of the first campaign changes.

        Raises:
            NotFound: the campaign has no such checkpoint.
        """
        row = self._check(self.store.campaigns.get(campaign), running=False)
        async with self._graph() as graph:
            source = await find_state(graph, campaign, checkpoint)
            settings: dict[str, JsonValue] = {
                "rules": rules.model_dump(mode="json") if rules is not None else row.settings["rules"],
                "budget": row.settings["budget"],
                "fork": {"campaign": campaign, "checkpoint": source.id},
            }
            fork = self._register(row.task, row.seed, settings, name)
            await begin_fork(graph, self.store, self.store.campaigns.get(fork))
            return fork

    async def showcase(self, campaign: str) -> Showcase | None:
        """The best output of a campaign in a file below the home; none where the task can't show one."""
        row = self.store.campaigns.get(campaign)
        rows = [each for each in self.store.trajectories.of(campaign) if each.valid and each.grade is not None]
        if not rows:
            return None
        async with self._factory.open_task(self.home, self.settings, row.task) as task:
            if not isinstance(task, ShowsBest):
                return None
            rows.sort(key=lambda each: (-task.metric.signed(each.grade or 0.0), each.trajectory))
            best: list[Trajectory] = []
            for each in rows[:SHOWN]:
                found = load_trajectories(self.store.artifacts, each.artifact)
                best += [trajectory for trajectory in found if trajectory.id == each.trajectory]
            return await task.showcase(best, self.home.root / "best")

    async def costs(self, campaign: str) -> CostReport:
        """What a campaign cost, by node, lever, model and round."""
        metric = await self._metric(self.store.campaigns.get(campaign).task)
        return cost_report(self.store, campaign, metric)

    async def report(self, campaign: str) -> CampaignReport:
        """Everything about a campaign; `pawl.graph.report.render` makes a page of it."""
        return gather(self.store, campaign, await self._metric(self.store.campaigns.get(campaign).task))

    def campaigns(self) -> list[Campaign]:
        """The campaigns of this home, oldest first."""
        return self.store.campaigns.all()

    def moves(self, campaign: str) -> list[Move]:
        """Every move of the channels of a campaign's task, oldest first."""
        return self.store.channels.moves(self.store.campaigns.get(campaign).task)

    def live_tasks(self) -> list[str]:
        """The tasks that have a live version in this home."""
        return list(self.store.live_versions())

    def rollback(self, task: str, *, by: str, reason: str, version: str | None = None) -> Pointer:
        """Point a task's live channel back at the version before.

        Args:
            task: the task whose live version is to go.
            by: who.
            reason: why, for the history and the ledger.
            version: the version that is to go, or the beginning of its id; safe to repeat. Without it, whatever is
                live goes, but for a version that a rollback brought back.

        Raises:
            NotFound: nothing was live before.
            Conflict: another version is live, or the last move was a rollback and no version is named.
        """
        return roll_back(self.store, task, by=by, reason=reason, version=version)

    def stop(self, *, by: str, reason: str, campaign: str | None = None) -> None:
        """Pull the kill switch for one campaign, or for everything in this home.

        Raises:
            NotFound: there is no such campaign, so that a slip of the pen doesn't pass for a stop.
        """
        if campaign is not None:
            self.store.campaigns.get(campaign)
        self.store.kill_switch.stop(reason, by, *([campaign] if campaign else []))

    def go(self, *, by: str, campaign: str | None = None) -> bool:
        """Lift the kill switch; tells whether it was set."""
        return self.store.kill_switch.go(by, *([campaign] if campaign else []))

    # Within

    def _register(self, task: str, seed: int, settings: dict[str, JsonValue], name: str | None) -> str:
        """Enter a campaign; where no name is given, the next free one is its own, whoever else starts at this moment.

        Raises:
            ConfigurationError: the name is none that can be kept.
            Conflict: the given name is taken.
        """
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} can't name a campaign: expected up to 64 letters, digits, '.', '_' and '-', "
                "with a letter or digit first, since folders are named after it."
            )
        settings = {**settings, "trace_id": os.urandom(16).hex()}
        while True:
            campaign = name or self.store.next_name(task)
            try:
                self.store.campaigns.create(
                    campaign,
                    task=task,
                    seed=seed,
                    settings=settings,
                    fingerprint=fingerprint(self._nodes),
                    schema_version=SCHEMA_VERSION,
                )
            except Conflict:
                if name is not None:
                    raise
            else:
                return campaign

    async def _metric(self, task: str) -> Metric | None:
        """The metric of a task, or none where the task can't be opened here."""
        declared = declared_metric(task)
        if declared is not None:
            return declared
        try:
            async with self._factory.open_task(self.home, self.settings, task) as opened:
                return opened.metric
        except PawlError:
            return None

    async def _run(self, row: Campaign, control: RunControl, lease: Lease) -> AsyncGenerator[Event]:
        async with (
            self._graph() as graph,
            traced(self.home, self.store, row) as trace,
            self._factory.open(self.home, self.settings, self.store, row) as services,
        ):
            services = replace(services, telemetry=trace.telemetry, lease=lease)
            run = Run(self.home, self.store, row, graph, fingerprint(self._nodes), services, control, trace)
            async for event in run.events():
                yield event

    @asynccontextmanager
    async def _graph(self) -> AsyncGenerator[Any]:
        extra = {each for spec in self._nodes if spec.state is not None for each in spec.state.__annotations__.values()}
        async with open_saver(
            self.home, self.settings.database_url, [each for each in extra if isinstance(each, type)]
        ) as saver:
            yield build_graph(self._nodes).compile(checkpointer=saver)  # pyright: ignore[reportUnknownMemberType]

    def _check(self, row: Campaign, *, running: bool = True) -> Campaign:
        if running and row.status is Status.FINISHED:
            raise CampaignFinished(
                f"Campaign {row.id} has ended ({row.reason}). Start another with `pawl run {row.task}`, "
                f"or fork it from a checkpoint of `pawl history {row.id}`."
            )
        if row.fingerprint != fingerprint(self._nodes) or row.schema_version != SCHEMA_VERSION:
            raise CampaignChanged(changed(row.id))
        return row
