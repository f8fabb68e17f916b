"""What crosses the judge's pipe: JSON lines of these frozen models, and nothing sealed before the reveal."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from ..core import Usage, Version
from .races import Outcome, Race, RaceRules


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JudgeSetup(_Frozen):
    """The judge's first message: where things are. It holds no provider's key."""

    home: Path
    socket: str
    """Unix socket of the relay to the model server."""
    token: str
    """Short-lived bearer token of that relay."""
    base_model: str
    is_local: bool
    is_vllm: bool = False
    timeout_seconds: float
    workers: int
    sealed_seed: int | None = None
    """Replaces the home's secret, so that runs in fresh homes repeat; the seal is then as secret as this number."""


class CommitRequest(_Frozen):
    """Fix a campaign's sealed splits and rules."""

    campaign: str
    task: str
    seed: int
    rules: RaceRules


class Commitment(_Frozen):
    """What the judge is bound to: the reveal opens this digest."""

    campaign: str
    task: str
    digest: str
    """SHA-256 of the canonical JSON of campaign, task, seed, rules and secret."""
    rules: RaceRules


class RaceRequest(_Frozen):
    """One sealed comparison; the same key always gets the same answer and is paid for once."""

    key: str
    campaign: str
    race: Race
    task: str
    candidate: Version
    live: Version
    lever: str
    """What was pulled to make the candidate: recorded with the evidence."""
    others: dict[str, Version] = {}
    """Live version of each other task of this home; guards, where candidate and live differ in their adapter."""


class RaceResult(_Frozen):
    """All that a sealed race says."""

    key: str
    race: Race
    outcome: Outcome
    bits: float
    """Debited for the outcome."""
    alpha: float
    """Debited from the campaign's error budget; zero for a race that spends none."""
    bill: Usage
    """A fixed amount, whatever the race took."""
    evidence: str
    """Digest of the evidence, which the reveal opens."""


class RevealedRace(_Frozen):
    """A race with its evidence."""

    key: str
    result: RaceResult
    evidence: JsonValue
    usage: Usage
    """What the race's rollouts really cost."""


class Reveal(_Frozen):
    """The end of the seal: all that the commitment and the digests of evidence stood for."""

    campaign: str
    task: str
    seed: int
    secret: str
    commitment: Commitment
    races: list[RevealedRace]
