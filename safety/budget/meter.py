"""Budgets: what a campaign may take, and a meter of what it took.

    meter.add(campaign, key=f"{round}/evaluator/{item}", node="evaluator", round=round, usage=trajectory.usage)
    meter.check(campaign, Budget(tokens=1_000_000), started=start)

A limit is looked at between steps, never within one, so that nothing is half done; the last step may overshoot it.
"""

import time
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, Column, ColumnElement, Float, Integer, Row, String, Table, func, select

from ...core import BudgetExhausted, Database, Usage
from ...core.database import metadata
from ...core.faults import point
from ...core.tables import insert_new

usage_table = Table(
    "usage",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("node", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("lever", String),
    Column("model", String),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("verifications", BigInteger, nullable=False),
    Column("training_steps", BigInteger, nullable=False),
    Column("cpu_seconds", Float, nullable=False),
    Column("usd", Float, nullable=False),
)

_Group = TypeVar("_Group", int, str)
_FIELDS = tuple(Usage.model_fields)


class Budget(BaseModel):
    """Limits of one campaign; none is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int | None = Field(default=None, ge=0)
    """Input and output together."""
    usd: float | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0)
    """Of wall-clock time, from where the caller starts counting."""
    verifications: int | None = Field(default=None, ge=0)
    training_steps: int | None = Field(default=None, ge=0)


class Meter:
    """The counters of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self,
        campaign: str,
        key: str,
        node: str,
        round: int,  # noqa: A002
        usage: Usage,
        *,
        lever: str | None = None,
        model: str | None = None,
    ) -> None:
        """Count what one step took. Idempotent: a key counts once in a campaign, with what came first."""
        values = {"campaign": campaign, "key": key, "node": node, "round": round, "lever": lever, "model": model}
        with self._db.write() as connection:
            insert_new(connection, usage_table, {**values, **usage.model_dump()})
        point("usage.added")

    def spent(self, campaign: str) -> Usage:
        """What a campaign took so far."""
        with self._db.read() as connection:
            return _usage(connection.execute(select(*_sums()).where(usage_table.c.campaign == campaign)).one())

    def by_round(self, campaign: str) -> dict[int, Usage]:
        """What each round took."""
        return self._grouped(campaign, usage_table.c.round)

    def by_node(self, campaign: str) -> dict[str, Usage]:
        """What each node took."""
        return self._grouped(campaign, usage_table.c.node)

    def by_lever(self, campaign: str) -> dict[str, Usage]:
        """What was spent on pulling each lever; steps that belong to none are left out."""
        return self._grouped(campaign, usage_table.c.lever)

    def check(self, campaign: str, budget: Budget, started: float) -> None:
        """Return if the campaign may go on.

        Args:
            campaign: whose counters.
            budget: the limits.
            started: since when its time counts, in seconds since the epoch. A campaign that waited for a person
                has not used its time: the caller moves this on.

        Raises:
            BudgetExhausted: a limit is reached; the message says which, and how to raise it.
        """
        spent = self.spent(campaign)
        resume = f"pawl resume {campaign}"
        for name, taken, limit, unit, option in (
            ("tokens", spent.tokens, budget.tokens, "tokens", "--budget-tokens N"),
            ("usd", spent.usd, budget.usd, "US dollars", "--budget-usd X"),
            ("seconds", time.time() - started, budget.seconds, "seconds", "--budget-minutes M"),
            (
                "verifications",
                spent.verifications,
                budget.verifications,
                "verifications",
                "(or Session.resume with budget=Budget(verifications=N))",
            ),
            (
                "training_steps",
                spent.training_steps,
                budget.training_steps,
                "training steps",
                "(or Session.resume with budget=Budget(training_steps=N))",
            ),
        ):
            if limit is not None and taken >= limit:
                raise BudgetExhausted(
                    f"Campaign {campaign} has used up its budget of {unit}: {taken:,.6g} of {limit:,.6g}. "
                    f"What is done is kept; to go on, raise `{name}` and resume: {resume} {option}."
                )

    def _grouped(self, campaign: str, column: Column[_Group]) -> dict[_Group, Usage]:
        query = (
            select(column.label("of"), *_sums())
            .where(usage_table.c.campaign == campaign, column.is_not(None))
            .group_by(column)
            .order_by(column)
        )
        with self._db.read() as connection:
            return {row.of: _usage(row) for row in connection.execute(query)}


def _sums() -> list[ColumnElement[Any]]:
    return [func.coalesce(func.sum(usage_table.c[field]), 0).label(field) for field in _FIELDS]


def _usage(row: Row[Any]) -> Usage:
    return Usage.model_validate({field: getattr(row, field) for field in _FIELDS})
