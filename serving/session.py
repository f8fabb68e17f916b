"""One rollout as the proxy sees it: who it is, what it may ask for, and what is recorded of it."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiolimiter import AsyncLimiter
from pydantic import BaseModel, ConfigDict, Field

from ..core import PawlError, Step, Usage, Version
from ..safety.budget.calls import Spending
from ..safety.telemetry import Place
from .candidates import Candidate, CandidateLimits
from .lockstep import Ended, Lockstep
from .refusal import Refused
from .tools import Tool

MODEL_FAILED = "the model server failed, so that this rollout can't go on"


class CallLimits(BaseModel):
    """What one rollout may ask for."""

    model_config = ConfigDict(frozen=True)

    calls: int = Field(default=256, ge=1)
    """Requests to the model."""
    tokens: int = Field(default=200_000, ge=1)
    """Input and output tokens of all calls together; checked before each call, so that the last may pass it by its
    prompt."""
    most: Usage | None = None
    """Input tokens and output tokens of all calls together, neither ever passed: a call goes out only if the most that
    it can use is left, and its answer is cut short where it must be."""
    seconds: float = Field(default=3600.0, gt=0)
    """How long its token is good for. A runner lets it end with the rollout's wall clock."""
    requests_per_second: float = Field(default=50.0, gt=0)
    burst: int = Field(default=512, ge=1)
    """Requests of any kind that may come at once, on top of the rate. More than `calls`, so that whether an honest
    scaffold meets the rate never depends on time."""
    concurrent: int = Field(default=16, ge=1)
    """Requests that may wait for an answer."""
    connections: int = Field(default=32, ge=1)
    request_bytes: int = Field(default=2 << 20, ge=1)
    header_bytes: int = Field(default=16 << 10, ge=1)
    request_seconds: float = Field(default=30.0, gt=0)
    """How long a request's headers, and then its body, may take to arrive."""


@dataclass
class Session:
    """One rollout as the proxy sees it; what is recorded here is the trajectory's body."""

    version: Version
    seed: int
    tools: dict[str, Tool]
    limits: CallLimits
    lockstep: Lockstep
    member: int
    socket: Path
    """The rollout's own Unix socket."""
    candidate: Candidate = field(default_factory=lambda: Candidate(CandidateLimits()))
    """The account of its version, shared by all its rollouts."""
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
    """What the operator is told once the endpoint has failed; the rollout learns neither its address nor its words."""
    trusted_error: PawlError | None = None
    """What a trusted part raised that isn't the candidate's doing: a stop, a spent budget, damaged machinery."""
    closed: bool = False
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)
    """One request at a time, so that steps have an order."""
    _waiting: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        self._ends = time.monotonic() + limits.seconds
        self._rate = AsyncLimiter(limits.burst, limits.burst / limits.requests_per_second)

    @asynccontextmanager
    async def admit(self, authorization: str) -> AsyncGenerator[None]:
        """Let one request in, when its turn comes.

        Args:
            authorization: the header of that name.

        Raises:
            Refused: it has not this rollout's token, comes too fast, or the rollout is over.
        """
        if not self._rate.has_capacity():
            again = 1 / self.limits.requests_per_second
            raise Refused(429, f"more than {self.limits.requests_per_second:g} requests a second; slow down", again)
        await self._rate.acquire()  # at once, after that question
        await self.candidate.admit()
        self._check(authorization)
        if self._waiting >= self.limits.concurrent:
            raise Refused(429, f"{self._waiting} requests of this rollout are waiting already; wait for one", 1.0)
        self._waiting += 1
        try:
            async with self._turn:
                if self.closed:
                    raise Refused(410, "this rollout is over")
                if self.model_error is not None:
                    raise Refused(502, MODEL_FAILED)
                try:
                    yield
                except Ended:
                    raise Refused(410, "this rollout is over") from None
        finally:
            self._waiting -= 1

    def _check(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(401, "no token: expected the header `Authorization: Bearer` with this rollout's token")
        if not secrets.compare_digest(token.strip().encode(), self.token.encode()):
            raise Refused(401, "the token is not this rollout's; a token serves one rollout, and ends with it")
        if time.monotonic() > self._ends:
            raise Refused(401, f"the token has run out: it was good for {self.limits.seconds:g} s")

    def record(self, step: Step) -> None:
        """Append a step, unless the rollout is over."""
        if not self.closed:
            self.steps.append(step)
            self.usage += step.usage if step.kind != "note" else Usage()
