"""The meter of each candidate: what all rollouts of one version together have used, and what they may.

    candidates = CandidateMeter(CandidateLimits(tokens=1_000_000))
    await run_rollouts(..., candidates=candidates)
    candidates.of(version).usage

A candidate that reaches its limit is told so by 429 and goes on with what it has; that is data, no error.
"""

from aiolimiter import AsyncLimiter
from pydantic import BaseModel, ConfigDict, Field

from ..core import Usage, Version
from .refusal import Refused


class CandidateLimits(BaseModel):
    """What all rollouts of one candidate together may ask for."""

    model_config = ConfigDict(frozen=True)

    calls: int | None = Field(default=None, ge=1)
    """Requests to the model."""
    tokens: int | None = Field(default=None, ge=1)
    """Input and output tokens. Never passed: a call goes out only if the most that it can use is left, beside what
    calls under way can use. So leave room for one call of each rollout that runs at once."""
    requests_per_second: float | None = Field(default=None, gt=0)
    """Requests of any kind. Whether a rollout meets this depends on time, so that rollouts may no longer repeat."""
    burst: int = Field(default=64, ge=1)
    """Requests that may come at once, on top of the rate."""


class Candidate:
    """One candidate's account."""

    def __init__(self, limits: CandidateLimits) -> None:
        self._limits = limits
        rate = limits.requests_per_second
        self._rate = None if rate is None else AsyncLimiter(limits.burst, limits.burst / rate)
        self.held = 0
        """Tokens that calls under way can use at most."""
        self.usage = Usage()
        """What its calls have used; of calls that were cut off, the most that they can have used."""
        self.calls = 0
        """Calls that were sent."""

    async def admit(self) -> None:
        """Count one request of any kind.

        Raises:
            Refused: they come too fast.
        """
        if self._rate is None:
            return
        if not self._rate.has_capacity():
            rate = self._limits.requests_per_second or 1.0
            raise Refused(
                429, f"more than {rate:g} requests a second by this candidate's rollouts; slow down", 1 / rate
            )
        await self._rate.acquire()  # at once, after that question

    def room(self, prompt_tokens: int) -> int | None:
        """Tokens that an answer to such a prompt may have; none where no limit is set.

        Raises:
            Refused: a limit is reached.
        """
        limits = self._limits
        if limits.calls is not None and self.calls >= limits.calls:
            raise Refused(429, f"this candidate's rollouts have used up their {limits.calls} calls together")
        if limits.tokens is None:
            return None
        room = limits.tokens - self.usage.tokens - self.held - prompt_tokens
        if room <= 0:
            raise Refused(429, f"this candidate's rollouts have used up their {limits.tokens} tokens together")
        return room

    def reserve(self, most: Usage) -> "_Hold":
        """Set aside the most that a call can use."""
        return _Hold(self, most)


class _Hold:
    def __init__(self, candidate: Candidate, most: Usage) -> None:
        self._candidate, self._most = candidate, most
        candidate.held += most.tokens
        candidate.calls += 1

    def settle(self, usage: Usage) -> None:
        self._candidate.held -= self._most.tokens
        self._candidate.usage += usage

    def release(self) -> None:
        self._candidate.held -= self._most.tokens


class CandidateMeter:
    """Keeps the accounts of candidates, over as many runs as it is given to.

    Args:
        limits: of each.
    """

    def __init__(self, limits: CandidateLimits | None = None) -> None:
        self._limits = limits or CandidateLimits()
        self._candidates: dict[str, Candidate] = {}

    def of(self, version: Version) -> Candidate:
        """The account of a version; a new one is empty."""
        return self._candidates.setdefault(version.id, Candidate(self._limits))
