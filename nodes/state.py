"""The state of a campaign: plain JSON and this closed list of frozen models, nothing else.

Everything large (trajectories, diffs, adapters) is an artefact, here by digest. The state therefore stays the
same size however many rounds a campaign runs; past rounds are rows of the database, not keys of the state.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from typing_extensions import TypedDict

from ..core import Usage
from ..evals.races import Outcome, Race, RaceRules
from ..training.objectives import (
    PPO,
    Aggregation,
    Anchor,
    Baseline,
    BestOfN,
    Entropic,
    GroupRelative,
    LossSettings,
    Objective,
    Overlong,
    Preference,
    Reinforce,
    Scale,
)
from .decision import Decision, Diagnosis, Lever

SCHEMA_VERSION = 2
"""Raised whenever a key or model changes in a way that an older checkpoint can't be read by."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ApprovalMode(StrEnum):
    """Who answers at the gate."""

    ASK = "ask"
    """A person; the campaign waits."""
    AUTO = "auto"
    """A rule: what passed its three races is approved. The request and the answer are recorded all the same."""


class StopReason(StrEnum):
    """Why a campaign ended."""

    ROUNDS = "rounds"
    """The rounds that were asked for are done."""
    EACH_LEVER = "each-lever"
    """Each lever has been pulled, which is what was asked for."""
    DECIDED = "decided"
    """The Feedback-Agent saw no lever worth its cost."""
    ACCOUNT = "account"
    """The judge's account has no room for another sealed race."""


class CampaignRules(_Frozen):
    """What a campaign is allowed and asked to do; fixed at START."""

    rounds: int = Field(default=4, ge=1)
    until_each_lever: bool = False
    """End as soon as each lever has been pulled once, within `rounds`."""
    approve: ApprovalMode = ApprovalMode.ASK
    items: int = Field(default=8, ge=1)
    """Visible items a round."""
    attempts: int = Field(default=4, ge=1)
    """Rollouts of each item; group-relative objectives compare within an item."""
    replay: int = Field(default=96, ge=0)
    """Rollouts from earlier rounds that a training job may add to this round's."""
    staleness: int = Field(default=0, ge=0)
    """How many promoted adapters back the policy of such a rollout may be; 0 takes those of the live policy alone.
    Where older ones are taken, the clip is anchored at the job's start and their weight truncated."""
    shadow_items: int = Field(default=4, ge=0)
    monitor_items: int = Field(default=4, ge=0)
    races: RaceRules = RaceRules(alpha=0.1, holdout=28, regression=8, adversarial=4, looks=1, guard_items=4)
    """Sizes and error budget of the sealed races, which the judge commits itself to."""
    sealed_seed: int | None = None
    """Draw sealed items from this number instead of the judge's secret: repeatable in fresh homes, and no longer
    secret. For demonstrations and tests."""
    training: dict[str, JsonValue] = {}
    """Overrides of the training job's hyper-parameters; `loss` holds those of a policy gradient's loss."""


class Evaluation(_Frozen):
    """What the live version scored on a round's items."""

    mean: float
    low: float | None
    high: float | None
    """95 % interval of the mean, items as the unit; none with fewer than two items."""
    rollouts: int
    valid: int
    failures: dict[str, int]
    """Rollouts by failure class."""


class Candidate(_Frozen):
    """A version that wants to become live."""

    version: str
    parent: str
    lever: Lever
    operator: str
    """What made it: a scaffold operator, or a training objective."""
    summary: str
    """Artefact with the diff or the training summary."""


class RaceSummary(_Frozen):
    """What the optimiser may know of one race."""

    race: Race
    outcome: Outcome
    before: float | None = None
    after: float | None = None
    low: float | None = None
    high: float | None = None
    """Means of live and candidate and the interval of the effect; for the target race alone."""
    bits: float = 0.0
    alpha: float = 0.0
    """Debited from the campaign's account."""
    estimated: bool = False
    """Whether the grades rest on estimated times."""
    evidence: str = ""
    """Digest of the evidence, which the reveal opens."""


class Verdict(StrEnum):
    """What a person, or the rule, decided at the gate."""

    APPROVE = "approve"
    EDIT = "edit"
    REJECT = "reject"
    RESPOND = "respond"


class Approval(_Frozen):
    """The answer at the gate."""

    verdict: Verdict
    actor: str
    reason: str = ""
    files: dict[str, str] = {}
    """For an edit: the scaffold's files as they should be, path to text; absent ones stay."""


class State(TypedDict, total=False):
    """Keys of the house; a plug-in node adds its own by `NodeSpec.state`."""

    schema_version: int
    fingerprint: str
    campaign: str
    task: str
    seed: int
    trace_id: str
    rules: CampaignRules

    round: int
    live: str
    """Version that the channel `live` names, as this campaign knows it."""
    trajectories: str
    """Artefact: the trajectories of this round, graded once the evaluator has run."""
    evaluation: Evaluation
    decision: Decision
    candidate: Candidate | None
    races: list[RaceSummary]
    shadow: str | None
    """Artefact: recorded items, both versions' outputs."""
    request: str | None
    """Artefact: what the gate asks."""
    approval: Approval | None
    note: str
    """What a person answered instead of approving; evidence for the next decision."""
    exhausted: str | None
    """Which budget was used up before the round had come to an end; its candidate is let go."""
    worse: bool
    """Whether the monitor found the promoted version worse than the one before."""
    pulled: list[Lever]
    """Levers pulled so far, each once."""
    stop: StopReason | None


STATE_MODELS: list[type] = [
    ApprovalMode,
    StopReason,
    CampaignRules,
    Evaluation,
    Candidate,
    RaceSummary,
    Verdict,
    Approval,
    Decision,
    Lever,
    Diagnosis,
    Objective,
    PPO,
    GroupRelative,
    Entropic,
    Reinforce,
    BestOfN,
    Preference,
    LossSettings,
    Scale,
    Baseline,
    Aggregation,
    Anchor,
    Overlong,
    Race,
    RaceRules,
    Outcome,
    Usage,
]
"""Every type that a checkpoint may hold beside plain JSON."""
