"""Prepaid spending: calls reserved and settled in memory, against a block that was drawn from the accounts.

    with Prepaid(leases, charge, limits, prices, key=operation) as spending:
        hold = spending.reserve(Usage(input_tokens=4_000, output_tokens=512))      # BudgetExhausted, or a hold
        hold.settle(usage)

Safe to share between threads and tasks. The database is asked when a block is used up; blocks grow with the calls
that are made, and shrink with what is left. Tokens, and dollars for tokens, are reserved at their upper bound, so
that no limit on them is passed. What hardware takes is known after its use alone: it counts then, and the next call
that finds no room is refused.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from sqlalchemy.exc import SQLAlchemyError

from ...core import PawlError, Usage
from .accounts import Charge
from .leases import DayTurned, LeaseKind, Leases, Terms, new_lease
from .limits import Amount, Budget, amount_of
from .meter import EventKind
from .money import NANO
from .prices import Prices

FIRST_CALLS = 32
MOST_CALLS = 256
BEAT_SECONDS = 30.0


class PrepaidHold:
    """An amount set aside for one call."""

    def __init__(self, owner: "Prepaid", most: Usage, amount: Amount) -> None:
        self._owner = owner
        self.most = most
        self.amount = amount

    def settle(self, usage: Usage) -> None:
        """See `Hold.settle`; what comes after the first end of a hold is of no effect."""
        self._owner.end(self, usage)

    def release(self) -> None:
        """See `Hold.release`."""
        self._owner.end(self, None)


class Prepaid:
    """A lease's holder; see the module.

    Args:
        leases: of the home's database.
        charge: for what is spent.
        limits: gives the limits as they are when a block is drawn.
        prices: of the model that is called.
        key: of the one event that the work comes to; none flushes events of the lease's own (see `flush`).
        kind: a worker's lease is kept alive by a heartbeat, in a thread.
        gpus: GPUs of one's own that the calls keep: they count for as long as any call is under way.
    """

    def __init__(
        self,
        leases: Leases,
        charge: Charge,
        limits: Callable[[], Budget],
        prices: Prices,
        *,
        key: str | None = None,
        kind: LeaseKind = LeaseKind.RUN,
        gpus: int = 0,
    ) -> None:
        self._gpus = gpus
        self._since = 0
        self._leases = leases
        self._limits = limits
        self._prices = prices
        self._key = key
        self._terms = Terms(new_lease(), kind, charge, prices.version)
        self._lock = threading.Lock()
        self._holds: set[PrepaidHold] = set()
        self._free = Amount()
        self._drawn = False
        self._calls = FIRST_CALLS
        self._used = Usage()
        self._nano = 0
        self._took = Usage()
        self._flushes = 0
        self._closed = threading.Event()

    def __enter__(self) -> "Prepaid":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(kept=error is None)

    def reserve(self, most: Usage) -> PrepaidHold:
        """See `Spending.reserve`.

        Raises:
            LimitReached: no room under a limit; the call must not be made.
            Conflict: the lease was declared lost; this process must stop spending.
        """
        amount = amount_of(most, self._prices.most(most))
        if self._gpus:  # how long a call keeps them nobody knows; it begins where there is any time left
            amount = amount._replace(gpu_seconds=max(1, amount.gpu_seconds))
        with self._lock:
            if self._closed.is_set():
                raise PawlError("This spending was closed; open another for further calls.")
            self._count_gpus()
            if not self._free.covers(amount):
                self._draw(amount)
            self._free = self._free.minus(amount)
            hold = PrepaidHold(self, most, amount)
            self._holds.add(hold)
        return hold

    def end(self, hold: PrepaidHold, usage: Usage | None) -> None:
        """End a hold, with what its call took."""
        with self._lock:
            if hold not in self._holds:
                return
            self._count_gpus()
            self._holds.remove(hold)
            taken = Amount()
            if usage is not None:
                nano = self._prices.cost(usage)
                taken = amount_of(usage, nano)
                self._used += usage
                self._nano += nano
            self._free = self._free.plus(hold.amount).minus(taken)

    def took(self, usage: Usage) -> None:
        """See `Spending.took`."""
        with self._lock:
            self._took += usage

    def flush(self) -> None:
        """Settle what has been used so far, as an event; only for spending without a key of its own.

        Raises:
            Conflict: the lease was declared lost.
        """
        with self._lock:
            self._flush()

    def close(self, *, kept: bool = True) -> None:
        """Settle everything and give the rest back. A hold that is still open counts at its bound.

        Args:
            kept: whether the work came to something; what was used for nothing is counted as lost.
        """
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            self._count_gpus()
            for hold in self._holds:
                self._used += hold.most
                self._nano += hold.amount.usd
            self._holds.clear()
            more = _beyond(self._took, self._used)
            usage, nano = self._used + more, self._nano + self._prices.cost(more)
            if not self._drawn and usage == Usage():
                return
            own = f"lease/{self._terms.id}/{self._flushes}"
            key, kind = (self._key or own, EventKind.USED) if kept else (own, EventKind.LOST)
            self._leases.settle(self._terms, kind, key, usage, nano, opened=self._drawn)

    def _count_gpus(self) -> None:
        """Count the GPUs' time since the last call began or ended, if one was under way."""
        if not self._gpus:
            return
        now = self._leases.clock.monotonic()
        if self._holds:
            usage = Usage(gpu_seconds=(now - self._since) * self._gpus / NANO)
            nano = self._prices.cost(usage)
            self._used += usage
            self._nano += nano
            self._free = self._free.minus(amount_of(usage, nano))
        self._since = now

    def _draw(self, amount: Amount) -> None:
        """Get a block, with the lock held."""
        while True:
            short = amount.minus(self._free).positive()
            try:
                block = self._leases.draw(
                    self._terms, self._limits(), amount, short, self._calls, first=not self._drawn
                )
            except DayTurned:
                self._flush(turn=self._limits())
                continue
            break
        self._calls = min(4 * self._calls, MOST_CALLS)
        self._free = self._free.plus(block)
        if not self._drawn:
            self._drawn = True
            if self._terms.kind is LeaseKind.WORKER:
                threading.Thread(target=self._beat, name="budget-lease", daemon=True).start()

    def _flush(self, turn: Budget | None = None) -> None:
        """Write an event of what was used; at the turn of a day, keep of the block only what calls hold."""
        if not self._drawn:
            return
        held = Amount()
        for hold in self._holds:
            held = held.plus(hold.amount)
        rest = (held if turn is not None else self._free.plus(held)).positive()
        self._leases.flush(self._terms, self._flushes, self._used, self._nano, rest, turn)
        self._free = rest.minus(held)
        self._flushes += 1
        self._used, self._nano = Usage(), 0

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            with suppress(PawlError, SQLAlchemyError):  # the next beat, or the next draw, will tell
                self._leases.beat(self._terms.id)


def _beyond(total: Usage, part: Usage) -> Usage:
    """What is in the total and not in the part, field by field."""
    return Usage(
        input_tokens=max(0, total.input_tokens - part.input_tokens),
        output_tokens=max(0, total.output_tokens - part.output_tokens),
        verifications=max(0, total.verifications - part.verifications),
        training_steps=max(0, total.training_steps - part.training_steps),
        cpu_seconds=max(0.0, total.cpu_seconds - part.cpu_seconds),
        gpu_seconds=max(0.0, total.gpu_seconds - part.gpu_seconds),
    )
