"""Puts a report together from the records of a home; it starts nothing, and changes nothing of a campaign.

What can't be read (an artefact that is gone, say) is named among the report's problems, and the rest is told.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from ... import __version__
from ...core import PawlError, Trajectory
from ...core.tables import utc_now
from ...evals.judge_wire import Reveal, RevealedRace
from ...evals.races import Race, Verdict
from ...evals.task import Metric
from ...nodes.decision import Decision
from ...nodes.failures import failure_groups
from ...nodes.gate import ApprovalResponse
from ...nodes.journal import load_trajectories
from ...nodes.rounds import RoundRow
from ...nodes.state import CampaignRules, RaceSummary
from ...release import Answer, Campaign, Channel, Event, EventKind, Request, VersionRecord
from ..costs import CostReport, cost_report, find_reveal
from ..store import Store
from ..views import describe
from .data import (
    ApprovalReport,
    Basis,
    CampaignReport,
    LiveReport,
    OpenRound,
    RaceReport,
    RevealedDetails,
    RoundReport,
    SealReport,
)

_Read = TypeVar("_Read")


def gather(store: Store, campaign: str, metric: Metric | None) -> CampaignReport:
    """The report of a campaign as it stands, whatever its status.

    Args:
        store: records of the home.
        campaign: its id.
        metric: of the campaign's task; none where the task isn't installed here.

    Raises:
        NotFound: there is no such campaign.
    """
    return _Gathering(store, store.campaigns.get(campaign), metric).report()


class _Gathering:
    """One pass over the records, with what went wrong on the way."""

    def __init__(self, store: Store, campaign: Campaign, metric: Metric | None) -> None:
        self._store = store
        self._campaign = campaign
        self._metric = metric
        self._problems: list[str] = []
        self._bases: set[str] = set()
        self._estimated_rollouts = 0
        self._events = store.ledger.events(campaign.id)
        self._rows = [RoundRow.model_validate(each) for each in store.campaigns.rounds(campaign.id).values()]

    def report(self) -> CampaignReport:
        """Everything."""
        row = self._campaign
        reveal = self._try("what the judge revealed", lambda: find_reveal(self._store, row.id))
        costs = cost_report(self._store, row.id, self._metric)
        rounds = [self._round(each) for each in self._rows]
        open_round = self._open()
        root = self._store.ledger.root()
        return CampaignReport(
            campaign=row,
            status=row.status,
            made=utc_now(),
            pawl=__version__,
            rules=CampaignRules.model_validate(row.settings["rules"]),
            metric=self._metric,
            rounds=rounds,
            open=open_round,
            races=self._races(reveal),
            approvals=self._approvals(),
            costs=costs,
            live=self._live(),
            seal=self._seal(reveal),
            estimates=self._estimates(rounds, costs),
            events=len(self._events),
            ledger_root=root.root,
            ledger_size=root.size,
            problems=self._problems,
        )

    def _round(self, row: RoundRow) -> RoundReport:
        target = row.races[0] if row.races else None
        gain = None
        if target is not None and target.before is not None and target.after is not None:
            gain = self._signed(target.after) - self._signed(target.before)
        trajectories = self._trajectories(row.trajectories, f"round {row.round}")
        times = [event.at for event in self._events if event.body.get("round") == row.round]
        return RoundReport(
            row=row,
            finished=max(times, default=None),
            summary=self._summary(row),
            realised_gain=gain,
            low=target.low if target is not None else None,
            high=target.high if target is not None else None,
            estimated=any(each.grade is not None and each.grade.estimated for each in trajectories)
            or any(race.estimated for race in row.races),
            failures=failure_groups(trajectories),
        )

    def _open(self) -> OpenRound | None:
        last = self._rows[-1].round if self._rows else 0
        later = [event for event in self._events if _round_of(event) > last]
        if not later:
            return None
        number = max(_round_of(event) for event in later)
        mean, decision, trajectories = None, None, list[Trajectory]()
        for event in later:
            if event.kind == EventKind.ROUND_EVALUATED:
                mean = _number(event.body.get("mean"))
                trajectories = self._trajectories(str(event.body.get("trajectories")), f"round {number}")
            elif event.kind == EventKind.LEVER_DECIDED:
                body = {name: value for name, value in event.body.items() if name != "round"}
                decision = self._try(f"the decision of round {number}", lambda b=body: Decision.model_validate(b))
        return OpenRound(
            round=number,
            last=later[-1].kind,
            at=later[-1].at,
            mean=mean,
            decision=decision,
            failures=failure_groups(trajectories),
        )

    def _races(self, reveal: Reveal | None) -> list[RaceReport]:
        opened = {race.result.evidence: race for race in reveal.races} if reveal is not None else {}
        return [
            RaceReport(
                round=number,
                candidate=candidate,
                race=summary.race,
                outcome=summary.outcome,
                sealed=summary.race is not Race.TARGET,
                summary=summary,
                revealed=self._revealed(number, opened.get(summary.evidence)),
            )
            for number, candidate, summary in [*self._raced(), *self._raced_in_open_round()]
        ]

    def _raced(self) -> list[tuple[int, str, RaceSummary]]:
        return [
            (row.round, row.candidate.version if row.candidate is not None else "", summary)
            for row in self._rows
            for summary in row.races
        ]

    def _raced_in_open_round(self) -> list[tuple[int, str, RaceSummary]]:
        """Races that have no row yet, as the ledger has them."""
        last = self._rows[-1].round if self._rows else 0
        found: list[tuple[int, str, RaceSummary]] = []
        for event in self._events:
            if _round_of(event) > last and event.kind.startswith("race."):
                body = {name: value for name, value in event.body.items() if name not in ("round", "version")}
                summary = self._try(event.event_id, lambda b=body: RaceSummary.model_validate(b))
                if summary is not None:
                    found.append((_round_of(event), str(event.body.get("version", "")), summary))
        return found

    def _revealed(self, number: int, race: RevealedRace | None) -> RevealedDetails | None:
        if race is None:
            return None
        evidence = race.evidence if isinstance(race.evidence, dict) else {}
        return self._try(
            f"the evidence of the {race.result.race.value} race of round {number}",
            lambda: RevealedDetails(
                verdict=Verdict.model_validate(evidence.get("verdict")), bill=race.result.bill, usage=race.usage
            ),
        )

    def _approvals(self) -> list[ApprovalReport]:
        asked = {
            str(event.body.get("version")): event
            for event in self._events
            if event.kind == EventKind.APPROVAL_REQUESTED
        }
        found = [self._answered(asked, *each) for each in self._store.decisions.history(self._campaign.id)]
        moved = {str(e.body.get("version")): e.at for e in self._events if e.kind == EventKind.VERSION_PROMOTED}
        for row in self._rows:
            approval, candidate = row.approval, row.candidate
            if approval is None or candidate is None or not approval.actor.startswith("rule:"):
                continue
            event = asked.get(candidate.version)
            found.append(
                ApprovalReport(
                    round=row.round,
                    version=candidate.version,
                    asked=event.at if event is not None else None,
                    decided=moved.get(candidate.version),
                    actor=approval.actor,
                    verdict=approval.verdict,
                    reason=approval.reason,
                    by_rule=True,
                    request="",
                    description="",
                )
            )
        return sorted(found, key=lambda each: (each.asked or "", each.request))

    def _answered(self, asked: dict[str, Event], request: Request, answer: Answer | None) -> ApprovalReport:
        version = _version_asked_for(request.request)
        event = asked.get(version)
        approval = None
        if answer is not None:
            approval = self._try(
                f"the answer to {request.interrupt_id[:8]}",
                lambda: ApprovalResponse.model_validate(answer.answer).to_approval(),
            )
        return ApprovalReport(
            round=_round_of(event) if event is not None else None,
            version=version,
            asked=request.asked,
            decided=answer.decided if answer is not None else None,
            actor=answer.actor if answer is not None else "",
            verdict=approval.verdict if approval is not None else "",
            reason=approval.reason if approval is not None else "",
            by_rule=False,
            request=request.interrupt_id,
            description=describe(request.request),
        )

    def _live(self) -> LiveReport | None:
        task, channels = self._campaign.task, self._store.channels
        pointer, previous = channels.get(task, Channel.LIVE), channels.get(task, Channel.PREVIOUS)
        version = self._version(pointer.version) if pointer is not None else None
        if pointer is None or version is None:
            return None
        return LiveReport(
            version=version,
            epoch=pointer.epoch,
            previous=self._version(previous.version) if previous is not None else None,
            moves=[move for move in channels.moves(task) if move.channel is Channel.LIVE],
        )

    def _version(self, version: str) -> VersionRecord | None:
        return self._try(f"version {version[:12]}", lambda: self._store.registry.get(version, self._campaign.task))

    def _seal(self, reveal: Reveal | None) -> SealReport:
        bodies = {event.kind: event.body for event in self._events}
        commitment = str(bodies.get(EventKind.CAMPAIGN_COMMITTED, {}).get("commitment", ""))
        if reveal is None:
            return SealReport(commitment=commitment, revealed=False)
        artifact = str(bodies.get(EventKind.CAMPAIGN_REVEALED, {}).get("reveal", ""))
        return SealReport(commitment=commitment, revealed=True, artifact=artifact)

    def _estimates(self, rounds: Sequence[RoundReport], costs: CostReport) -> list[Basis]:
        found: list[Basis] = []
        if any(each.estimated for each in rounds):
            named = ", ".join(sorted(self._bases)) or "not named by the task"
            found.append(
                Basis(
                    what=f"Grades of {self._estimated_rollouts} rollouts, and every race that compares them",
                    basis=f"times come from a model of the device, none was taken on one; recorded basis: {named}",
                )
            )
        if rounds:
            found += [
                Basis(
                    what="Expected gain",
                    basis="what the Feedback-Agent reckoned before the round, from that round's trajectories",
                ),
                Basis(
                    what="Intervals",
                    basis="95 %, percentile bootstrap over items; rounds work on different items, so two rounds' means "
                    "differ by their items too, while a race pairs both versions on the same ones",
                ),
            ]
        if costs.total.prices:
            found.append(
                Basis(
                    what="Dollars",
                    basis="measured use at listed prices and at the rates of this machine's hardware; "
                    f"no invoice was seen. {' and '.join(costs.total.prices)}",
                )
            )
        return found

    def _trajectories(self, digest: str, where: str) -> list[Trajectory]:
        found = self._try(f"the trajectories of {where}", lambda: load_trajectories(self._store.artifacts, digest))
        for each in found or []:
            if each.grade is not None and each.grade.estimated:
                self._estimated_rollouts += 1
                basis = each.grade.details.get("basis")
                if isinstance(basis, str):
                    self._bases.add(basis)
        return found or []

    def _summary(self, row: RoundRow) -> str:
        candidate = row.candidate
        if candidate is None:
            return ""
        found = self._try(f"the summary of round {row.round}", lambda: self._store.artifacts.get(candidate.summary))
        return (found or b"").decode(errors="replace")

    def _signed(self, value: float) -> float:
        return self._metric.signed(value) if self._metric is not None else value

    def _try(self, what: str, read: Callable[[], _Read]) -> _Read | None:
        try:
            return read()
        except (PawlError, ValidationError) as error:
            self._problems.append(f"{what} can't be read: {error}")
            return None


def _round_of(event: Event) -> int:
    number = event.body.get("round")
    return number if isinstance(number, int) else 0


def _number(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _version_asked_for(request: JsonValue) -> str:
    match request:
        case {"action_requests": [{"args": {"version": str(version)}}, *_]}:
            return version
        case _:
            return ""
