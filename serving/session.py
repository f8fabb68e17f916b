"""One rollout as the proxy sees it: who it is, what it may ask for, and what is recorded of it."""

import asyncio
import secrets
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from ..core import PawlError, Step, Usage, Version
from ..safety.budget.calls import Spending
from ..safety.telemetry import Place
from .lockstep import Lockstep
from .tools import Tool


class CallLimits(BaseModel):
    """What one rollout may ask for."""

    model_config = ConfigDict(frozen=True)

    calls: int = Field(default=256, ge=1)
    """Requests to the model."""
    tokens: int = Field(default=200_000, ge=1)
    """Input and output tokens of all calls together; checked before each call, so that the last may pass it by its
    prompt."""


@dataclass
class Session:
    """One rollout as the proxy sees it; what is recorded here is the trajectory's body."""

    version: Version
    seed: int
    tools: dict[str, Tool]
    limits: CallLimits
    lockstep: Lockstep
    member: int
    spending: Spending | None = None
    """What its model calls are paid from."""
    place: Place | None = None
    """Where its calls are told in the trace."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    steps: list[Step] = field(default_factory=list[Step])
    usage: Usage = field(default_factory=Usage)
    calls: int = 0
    tool_calls: dict[str, int] = field(default_factory=dict[str, int])
    model_error: str | None = None
    """The endpoint's words, once it has failed."""
    trusted_error: PawlError | None = None
    """What a trusted part raised that isn't the candidate's doing: a stop, a spent budget, damaged machinery."""
    closed: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One request at a time, so that steps have an order."""

    def record(self, step: Step) -> None:
        """Append a step, unless the rollout is over."""
        if not self.closed:
            self.steps.append(step)
            self.usage += step.usage if step.kind != "note" else Usage()
