"""Limits: what may be spent, of what, within what.

    Budget(usd=5, round=Limits(usd=1), day=Limits(tokens=2_000_000))
    Budget().with_limit("round.usd=0.5")          # as the command line writes it

Inside, every amount is an integer in the dimension's smallest unit: nano-dollars, nanoseconds, or ones.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core import BudgetExhausted, ConfigurationError, Usage
from .money import NANO, nano_dollars, shown


class Scope(StrEnum):
    """Within what a limit holds."""

    CAMPAIGN = "campaign"
    ROUND = "round"
    """Each round of a campaign."""
    CANDIDATE = "candidate"
    """Making, racing and shadowing the candidate of a round."""
    DAY = "day"
    """A UTC day of the home, over all its campaigns."""


class Dimension(StrEnum):
    """Of what."""

    TOKENS = "tokens"
    """Input and output together."""
    USD = "usd"
    GPU_SECONDS = "gpu_seconds"
    SECONDS = "seconds"
    """Of wall-clock time in which somebody worked on the campaign."""
    VERIFICATIONS = "verifications"
    TRAINING_STEPS = "training_steps"


UNITS = {
    Dimension.TOKENS: "tokens",
    Dimension.USD: "US dollars",
    Dimension.GPU_SECONDS: "GPU-seconds",
    Dimension.SECONDS: "seconds",
    Dimension.VERIFICATIONS: "verifications",
    Dimension.TRAINING_STEPS: "training steps",
}
_PARTS = {Dimension.USD: NANO, Dimension.GPU_SECONDS: NANO, Dimension.SECONDS: NANO}


class Amount(NamedTuple):
    """So much of each dimension, in its smallest unit; the fields stand in the order of `Dimension`."""

    tokens: int = 0
    usd: int = 0
    gpu_seconds: int = 0
    seconds: int = 0
    verifications: int = 0
    training_steps: int = 0

    def plus(self, other: "Amount") -> "Amount":
        """The sum."""
        return Amount(*map(int.__add__, self, other))

    def minus(self, other: "Amount") -> "Amount":
        """The difference; parts of it may be negative."""
        return Amount(*map(int.__sub__, self, other))

    def times(self, factor: int) -> "Amount":
        """The multiple."""
        return Amount(*(part * factor for part in self))

    def at_least(self, other: "Amount") -> "Amount":
        """The greater in each part."""
        return Amount(*map(max, self, other))

    def positive(self) -> "Amount":
        """Without what is below zero."""
        return self.at_least(Amount())

    def covers(self, other: "Amount") -> bool:
        """Whether the other fits into it."""
        return all(map(int.__ge__, self, other))

    def of(self, dimension: Dimension) -> int:
        """One part."""
        return getattr(self, dimension.value)


def amount_of(usage: Usage, nano: int) -> Amount:
    """What usage takes from a budget, with its price."""
    return Amount(
        tokens=usage.tokens,
        usd=nano,
        gpu_seconds=nano_dollars(usage.gpu_seconds) if usage.gpu_seconds else 0,  # as many nanoseconds
        verifications=usage.verifications,
        training_steps=usage.training_steps,
    )


class Limits(BaseModel):
    """The most that may be taken within one scope; none is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tokens: int | None = Field(default=None, ge=0)
    """Input and output together."""
    usd: float | None = Field(default=None, ge=0)
    gpu_seconds: float | None = Field(default=None, ge=0)
    """Of GPUs of one's own."""
    seconds: float | None = Field(default=None, ge=0)
    """Of wall-clock time in which somebody worked on the campaign."""
    verifications: int | None = Field(default=None, ge=0)
    training_steps: int | None = Field(default=None, ge=0)

    @property
    def any_limit(self) -> bool:
        """Whether there is any, in this scope itself."""
        return any(self.most(dimension) is not None for dimension in Dimension)

    def most(self, dimension: Dimension) -> int | None:
        """A limit in the dimension's smallest unit."""
        value = getattr(self, dimension.value)
        if value is None or dimension not in _PARTS:
            return value
        return nano_dollars(value)  # seconds have as many nanoseconds


class Budget(Limits):
    """Limits of a campaign, with those of each round, of each candidate and of the home's day within it."""

    round: Limits = Limits()
    candidate: Limits = Limits()
    day: Limits = Limits()

    def only(self, scopes: Collection[Scope]) -> "Budget":
        """The limits of some scopes alone."""
        kept = {scope.value: self.of(scope) for scope in scopes if scope is not Scope.CAMPAIGN}
        return Budget.model_validate({**(super().model_dump() if Scope.CAMPAIGN in scopes else {}), **_NONE, **kept})

    def of(self, scope: Scope) -> Limits:
        """The limits of one scope."""
        return self if scope is Scope.CAMPAIGN else getattr(self, scope.value)

    def with_limit(self, text: str) -> "Budget":
        """The budget with one limit set, given as `[SCOPE.]WHAT=NUMBER`; `none` lifts it.

        Raises:
            ConfigurationError: there is no such scope or dimension, or the number can't be a limit.
        """
        name, _, value = text.partition("=")
        where, _, what = name.strip().rpartition(".")
        scope = where or Scope.CAMPAIGN
        if scope not in tuple(Scope) or what not in tuple(Dimension):
            raise ConfigurationError(
                f"{text!r} is no limit: expected [SCOPE.]WHAT=NUMBER, for example round.usd=0.50. "
                f"Scopes: {', '.join(Scope)}. What: {', '.join(Dimension)}."
            )
        number = None if value.strip() == "none" else value.strip()
        changed = {**self.model_dump()}
        (changed if scope == Scope.CAMPAIGN else changed[scope])[what] = number
        try:
            return Budget.model_validate(changed)
        except ValidationError as error:
            raise ConfigurationError(
                f"{text!r} is no limit: {error.errors()[0]['msg']}. Expected a number of at least 0, or none."
            ) from error


_NONE = {scope.value: Limits() for scope in Scope if scope is not Scope.CAMPAIGN}


class LimitReached(BudgetExhausted):
    """One limit leaves no room; says which, with its figures and the option that raises it."""

    def __init__(self, message: str, scope: Scope, dimension: Dimension) -> None:
        super().__init__(message)
        self.scope = scope
        self.dimension = dimension


def reached(
    campaign: str,
    scope: Scope,
    whose: str,
    dimension: Dimension,
    *,
    settled: int,
    reserved: int,
    limit: int,
    wanted: int = 0,
) -> LimitReached:
    """The error for a limit that leaves no room; amounts in the dimension's smallest unit."""
    figures = f"{quantity(dimension, settled)} of {quantity(dimension, limit)}"
    if reserved:
        figures += f", with {quantity(dimension, reserved)} more set aside for what is under way"
    if wanted:
        figures += f"; the next step may take {quantity(dimension, wanted)}"
    state = "too little left of" if wanted else "used up"
    return LimitReached(
        f"{whose} has {state} its budget of {UNITS[dimension]}: {figures}. What is done is kept; to go on, raise "
        f"`{scope.value}.{dimension.value}` and resume: pawl resume {campaign} {option(scope, dimension)}.",
        scope,
        dimension,
    )


def quantity(dimension: Dimension, units: int) -> str:
    """An amount for people, without its unit, but for dollars."""
    if dimension is Dimension.USD:
        return shown(units)
    return f"{units / _PARTS[dimension]:,.6g}" if dimension in _PARTS else f"{units:,}"


def option(scope: Scope, dimension: Dimension) -> str:
    """The command line's option for a limit."""
    short: dict[Any, str] = {
        Dimension.TOKENS: "--budget-tokens N",
        Dimension.USD: "--budget-usd X",
        Dimension.SECONDS: "--budget-minutes M",
    }
    if scope is Scope.CAMPAIGN and dimension in short:
        return short[dimension]
    return f"--budget {scope.value}.{dimension.value}=N"
