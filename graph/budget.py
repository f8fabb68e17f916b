"""The budget of one campaign while it runs: its limits, over the accounts of its home."""

from collections.abc import Collection, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from ..core import Usage
from ..core.tables import serialise
from ..nodes.evidence import BudgetLeft, UsdRates
from ..safety.budget import (
    Budget,
    BudgetWarning,
    Charge,
    Dimension,
    EventKind,
    LeaseKind,
    Leases,
    Prepaid,
    Prices,
    Scope,
    paying,
)
from ..safety.budget.accounts import balances, move, nearly_spent, require, warn
from ..safety.budget.clock import Clock, SystemClock, today
from ..safety.budget.leases import Terms
from ..safety.budget.limits import Amount, amount_of
from ..safety.budget.money import NANO
from .store import Store

TICK_SECONDS = 10
"""Time is written down at least this often where no limit needs it, so that a later one finds it."""


class LimitedBudget:
    """What nodes see of a campaign's budget; whoever opens one holds the campaign's lease.

    Wall-clock time counts while somebody works on the campaign, not while it waits for a person; it is taken from the
    monotonic clock and written down at boundaries.
    """

    def __init__(
        self, store: Store, campaign: str, prices: Prices, *, gpus: int = 0, clock: Clock | None = None
    ) -> None:
        prices.cost(Usage(gpu_seconds=gpus))  # refused now, not in the middle, where they have no rate
        self._gpus = gpus
        self._store = store
        self._campaign = campaign
        self._prices = prices
        self._clock = clock or SystemClock()
        self._leases = Leases(store.db, self._clock)
        self._charge = Charge(campaign, 0, "start")
        self._since = self._clock.monotonic()
        self._budget = store.budget(campaign)
        self._leases.take_over(campaign)

    def check(self, charge: Charge, scopes: Collection[Scope] = tuple(Scope)) -> None:
        """Return if the campaign may go on.

        Raises:
            LimitReached: a limit of one of the scopes is reached.
        """
        self._budget = limits = self._store.budget(self._campaign)
        elapsed = self._clock.monotonic() - self._since
        timed = any(limits.of(scope).seconds is not None for scope in Scope)
        before, self._charge = self._charge, charge
        if timed or elapsed >= TICK_SECONDS * NANO:
            self._tick(before, elapsed)
            self._leases.reclaim()
        if not _any(limits):
            return
        with self._store.db.read() as connection:
            day = today(connection, self._clock, write=False)
            require(connection, charge, day, limits, Amount(), scopes)

    def charging(
        self, charge: Charge, operation: str, scopes: Collection[Scope] = tuple(Scope)
    ) -> AbstractContextManager[Prepaid]:
        """Pay for the model calls of a block, under the limits of some scopes; it comes to one event."""
        return _charging(
            Prepaid(
                self._leases,
                charge,
                lambda: self._budget.only(scopes),
                self._prices,
                key=operation,
                gpus=self._gpus,
            )
        )

    def hold(self, charge: Charge, operation: str, most: Usage, scopes: Collection[Scope] = tuple(Scope)) -> None:
        """Set aside what a thing that outlives processes takes at most; once, however often this is called.

        Raises:
            LimitReached: there is not so much left.
        """
        amount = amount_of(most, self._prices.most(most))
        self._leases.hold(self._terms(charge, operation), self._budget.only(scopes), amount)

    def settle(self, charge: Charge, operation: str, usage: Usage, kind: EventKind = EventKind.USED) -> None:
        """Count what it took, or what it is billed at, and free the rest; once, however often this is called."""
        nano = self._prices.cost(usage)
        self._leases.settle(self._terms(charge, operation), kind, operation, usage, nano, opened=False)

    def warnings(self) -> list[BudgetWarning]:
        """Limits of which 80 % are spent, and which nobody has been told of yet; call `told` with each."""
        limits, charge = self._budget, self._charge
        if not _any(limits):
            return []
        with self._store.db.read() as connection:
            if not nearly_spent(connection, charge, today(connection, self._clock, write=False), limits):
                return []
        with self._store.db.write() as connection:
            serialise(connection, "budget")
            warn(connection, charge, today(connection, self._clock), limits)
        return self._store.warnings.untold(self._campaign)

    def told(self, warning: BudgetWarning) -> None:
        """Take note that a warning is in the ledger."""
        self._store.warnings.tell(warning)

    def left(self) -> BudgetLeft:
        """What may still be spent in this round, by whichever scope leaves least."""
        limits = self._budget
        with self._store.db.read() as connection:
            accounts = replace(self._charge, candidate="").accounts(today(connection, self._clock, write=False))
            found = balances(connection, accounts.values())
        rest: dict[Dimension, int] = {}
        for scope, account in accounts.items():
            for dimension, room in found[account].room(limits.of(scope)).items():
                rest[dimension] = min(max(0, room), rest.get(dimension, max(0, room)))
        tokens = self._prices.tokens
        return BudgetLeft(
            tokens=rest.get(Dimension.TOKENS),
            verifications=rest.get(Dimension.VERIFICATIONS),
            training_steps=rest.get(Dimension.TRAINING_STEPS),
            usd=rest[Dimension.USD] / NANO if Dimension.USD in rest else None,
            rates=UsdRates(
                input_token=float(tokens.most_input) / 1e6 if tokens is not None else 0.0,
                output_token=float(tokens.most_output) / 1e6 if tokens is not None else 0.0,
                cpu_second=float(self._prices.cpu_usd_per_hour) / 3600,
            ),
        )

    def close(self) -> None:
        """Write down the time since the last boundary."""
        self._tick(self._charge, self._clock.monotonic() - self._since)

    def _tick(self, charge: Charge, elapsed: int) -> None:
        with self._store.db.write() as connection:
            serialise(connection, "budget")
            move(
                connection, charge.accounts(today(connection, self._clock)).values(), Amount(seconds=elapsed), Amount()
            )
        self._since += elapsed

    def _terms(self, charge: Charge, operation: str) -> Terms:
        return Terms(operation, LeaseKind.JOB, charge, self._prices.version)


@contextmanager
def _charging(spending: Prepaid) -> Generator[Prepaid]:
    with spending, paying(spending):
        yield spending


def _any(limits: Budget) -> bool:
    return any(limits.of(scope).any_limit for scope in Scope)
