"""What a report holds: frozen data, as it stands in the home, nothing escaped and nothing cut."""

from pydantic import BaseModel, ConfigDict, JsonValue

from ...core import Usage
from ...evals.races import Outcome, Race, Verdict
from ...evals.task import Metric
from ...nodes.decision import Decision
from ...nodes.failures import FailureGroup
from ...nodes.rounds import RoundRow
from ...nodes.state import CampaignRules, RaceSummary
from ...release import Campaign, Move, Status, VersionRecord
from ..costs import CostReport


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class RevealedDetails(_Frozen):
    """What the reveal told of one sealed race."""

    verdict: Verdict
    bill: Usage
    """What it was billed at."""
    usage: Usage
    """What its rollouts really took."""


class RaceReport(_Frozen):
    """One race."""

    round: int
    candidate: str
    race: Race
    outcome: Outcome
    sealed: bool
    """Whether it was run on items that the optimiser can't see."""
    summary: RaceSummary
    revealed: RevealedDetails | None = None
    """For a sealed race after the campaign's reveal."""


class RoundReport(_Frozen):
    """One finished round: its row, and what the row names by digest."""

    row: RoundRow
    finished: str | None
    """When its last event was logged (UTC, ISO 8601)."""
    summary: str
    """The candidate's diff or training summary, in its author's words."""
    realised_gain: float | None
    """Candidate minus live in the target race, in the metric's unit, more being better."""
    low: float | None
    high: float | None
    """95 % interval of that gain."""
    estimated: bool
    """Whether its grades rest on estimated times."""
    failures: list[FailureGroup]


class OpenRound(_Frozen):
    """The round that has no row yet: under way, waiting, or the one in which the campaign ended."""

    round: int
    last: str
    """The kind of the last event that was logged."""
    at: str
    mean: float | None = None
    """The live version's mean grade, once evaluated."""
    decision: Decision | None = None
    failures: list[FailureGroup] = []


class ApprovalReport(_Frozen):
    """One question at the gate and its answer."""

    round: int | None
    version: str
    asked: str | None
    decided: str | None
    """None while it waits."""
    actor: str
    verdict: str
    """Empty while it waits."""
    reason: str
    by_rule: bool
    """Whether a rule of the campaign answered, not a person."""
    request: str
    """Id to answer to; empty where a rule answered."""
    description: str
    """The question in words."""


class LiveReport(_Frozen):
    """What is live for the campaign's task now, and what a rollback would bring back."""

    version: VersionRecord
    epoch: int
    """How often the channel has moved."""
    previous: VersionRecord | None
    moves: list[Move]
    """Every move of the live channel, oldest first."""


class SealReport(_Frozen):
    """What the judge is bound to, and what it has opened."""

    commitment: str
    """Digest that it committed itself to before anything was tried; empty before."""
    revealed: bool
    artifact: str = ""
    """Digest of the stored reveal, whose secret opens the commitment and whose evidence opens each race."""


class Basis(_Frozen):
    """Something that is estimated, and on what."""

    what: str
    basis: str


class CampaignReport(_Frozen):
    """Everything that a page about one campaign says."""

    campaign: Campaign
    status: Status
    made: str
    """When this report was made (UTC, ISO 8601)."""
    pawl: str
    """Version of the program that made it."""
    rules: CampaignRules
    metric: Metric | None
    """None where the task isn't installed here; gains then have no unit and no direction."""
    rounds: list[RoundReport]
    open: OpenRound | None
    races: list[RaceReport]
    approvals: list[ApprovalReport]
    costs: CostReport
    live: LiveReport | None
    """None before the task's first version."""
    seal: SealReport
    estimates: list[Basis]
    events: int
    """Entries of the ledger that belong to this campaign."""
    ledger_root: str
    """Merkle root of the whole ledger when the report was made."""
    ledger_size: int
    problems: list[str]
    """What could not be read, and is therefore missing below."""

    def dump(self) -> dict[str, JsonValue]:
        """The report as plain JSON."""
        return self.model_dump(mode="json")
