"""What a run tells of itself as spans and metrics: the campaign, its runs, rounds, nodes and approvals.

The campaign's and the rounds' spans are told once they are over, by whichever process saw their end; what they are
the parents of may have been told long before, by processes that are gone.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from langgraph.errors import GraphBubbleUp

from ..core import Home, PawlError
from ..evals.judge_wire import Reveal
from ..nodes.rounds import RoundRow
from ..nodes.state import RaceSummary, State
from ..release import Campaign
from ..safety.telemetry import Span, names, open_telemetry, span, within
from .events import Event, NodeStarted, RoundFinished
from .store import Store

if TYPE_CHECKING:
    from ..safety.telemetry.telemetry import Telemetry


@contextmanager
def node_span(telemetry: "Telemetry | None", state: State, name: str) -> Generator[Span]:
    """Time a node below its round, and tell what it decided: give its update to `describe`."""
    place = telemetry.round(state.get("round", 0)) if telemetry is not None else None
    attributes: dict[str, str | int] = {
        names.CAMPAIGN: state["campaign"],
        names.TASK: state["task"],
        names.ROUND: state.get("round", 0),
        names.NODE: name,
    }
    with span(f"node {name}", attributes, within=place, calm=(GraphBubbleUp,)) as current:
        try:
            yield current
        except GraphBubbleUp:  # it waits for a job or a person, and is done again then
            current.set(names.PARKED, True)
            raise


def describe(current: Span, update: Mapping[str, Any]) -> None:
    """Tell what a node decided: a lever, a candidate, the outcomes of races, a person's verdict."""
    decision, candidate, approval = update.get("decision"), update.get("candidate"), update.get("approval")
    if decision is not None:
        current.set(names.LEVER, decision.lever.value)
        current.set(names.DIAGNOSIS, decision.diagnosis.value)
    if candidate is not None:
        current.set(names.CANDIDATE, candidate.version)
        current.set(names.LEVER, candidate.lever.value)
    if approval is not None:
        current.set(names.VERDICT, approval.verdict.value)
        current.set(names.ACTOR, approval.actor)
    races: list[RaceSummary] = update.get("races") or []
    for race in races:
        current.event("race", {names.RACE: race.race.value, names.OUTCOME: race.outcome.value})


@asynccontextmanager
async def traced(home: Home, store: Store, row: Campaign) -> AsyncGenerator["RunTrace"]:
    """Open telemetry for one run of a campaign; its end waits a bounded time for what is still to be sent."""
    opened = open_telemetry(home.root, campaign=row.id, trace_id=str(row.settings["trace_id"]))
    telemetry = opened.__enter__()
    try:
        yield RunTrace(telemetry, store, row)
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)


@dataclass
class RunTrace:
    """The spans of one run that are longer than a node."""

    telemetry: "Telemetry | None"
    store: Store
    row: Campaign
    started: float = field(default_factory=time.time)
    _run: str = field(default_factory=lambda: os.urandom(8).hex())
    _round: float | None = None
    """When this run first saw the round that it is in."""
    _ended: bool = False
    """Whether this run has seen a round end, and so sees the next one begin."""

    def saw(self, event: Event) -> None:
        """Take note of what happens."""
        if self.telemetry is None:
            return
        if isinstance(event, NodeStarted) and self._round is None:
            self._round = time.time()
        elif isinstance(event, RoundFinished):
            self._end_round(self.telemetry, event.row)
            self._round, self._ended = None, True

    def answered(self, request: str, number: int) -> None:
        """Tell how long a request waited at the gate, and what was decided."""
        if self.telemetry is None:
            return
        for asked, answer in self.store.decisions.history(self.row.id):
            if asked.interrupt_id == request and answer is not None:
                decisions = answer.answer.get("decisions") if isinstance(answer.answer, dict) else None
                first = decisions[0] if isinstance(decisions, list) and decisions else None
                verdict = str(first.get("type", "")) if isinstance(first, dict) else ""
                self.telemetry.ended(
                    "approval",
                    ("approval", request),
                    _seconds(asked.asked),
                    _seconds(answer.decided),
                    {**self._common, names.ROUND: number, names.ACTOR: answer.actor, names.VERDICT: verdict},
                    parent=("round", number),
                )

    def revealed(self, reveal: Reveal) -> None:
        """Tell what the sealed races really cost, which nobody knew before."""
        if self.telemetry is None:
            return
        with within(self.telemetry.root), span("reveal", self._common) as current:
            for race in reveal.races:
                current.event(
                    "race",
                    {
                        names.RACE: race.result.race.value,
                        names.OUTCOME: race.result.outcome.value,
                        names.INPUT_TOKENS: race.usage.input_tokens,
                        names.OUTPUT_TOKENS: race.usage.output_tokens,
                        names.VERIFICATIONS: race.usage.verifications,
                    },
                )

    def end(self) -> None:
        """Tell of this run; of the campaign too, where it has ended."""
        if self.telemetry is not None:
            with suppress(PawlError):  # what is wrong with the home was told by the run itself
                self._end(self.telemetry)

    def _end(self, telemetry: "Telemetry") -> None:
        row, now = self.store.campaigns.get(self.row.id), time.time()
        status = {**self._common, names.STATUS: row.status.value}
        failed = "failed" if row.status == "failed" else ""
        telemetry.ended("run", ("run", self._run), self.started, now, status, failed=failed)
        if row.status == "finished":
            workflow = {names.OPERATION: names.Operation.INVOKE_WORKFLOW.value, names.WORKFLOW: "pawl"}
            name = f"{names.Operation.INVOKE_WORKFLOW} pawl"
            telemetry.ended(name, ("campaign",), _seconds(row.created), now, {**status, **workflow}, parent=None)

    def _end_round(self, telemetry: "Telemetry", row: RoundRow) -> None:
        fate = row.fate if row.fate in ("promoted", "rolled back") else "discarded"
        common: dict[str, str] = {names.TASK: self.row.task, names.LEVER: row.decision.lever.value, names.FATE: fate}
        attributes: dict[str, str | int] = {**self._common, **common, names.ROUND: row.round, names.VERSION: row.live}
        if row.candidate is not None:
            attributes[names.CANDIDATE] = row.candidate.version
        telemetry.ended(f"round {row.round}", ("round", row.round), self._began(row.round), time.time(), attributes)
        telemetry.measure(names.ROUNDS, 1, common)

    def _began(self, number: int) -> float:
        """When a round began: in this run, or, where a run before began it, when the ledger was done with the last."""
        first, before = self._round or time.time(), _seconds(self.row.created)
        if self._ended:
            return first
        for event in self.store.ledger.events(self.row.id):
            if event.body.get("round") == number:
                return min(first, before)
            before = _seconds(event.at)
        return first

    @property
    def _common(self) -> dict[str, str]:
        return {names.CAMPAIGN: self.row.id, names.TASK: self.row.task}


def _seconds(when: str) -> float:
    return datetime.fromisoformat(when).timestamp()
