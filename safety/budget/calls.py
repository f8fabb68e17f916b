"""What a budget offers to whoever makes a call that costs: an upper bound is held before it, the truth settled after.

hold = spending.reserve(most)
try:
    usage = await call()
except CallRefused:
    hold.release()
    raise
hold.settle(usage)
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from ...core import Usage


class Hold(Protocol):
    """An amount set aside for one call; ends by exactly one `settle` or `release`."""

    def settle(self, usage: Usage) -> None:
        """The call was made: what it used counts as spent, the rest is free again.

        Where nobody can tell what was used (a call that was cut off, an answer that can't be read), settle what was
        reserved, so that nothing spent goes uncounted.
        """
        ...

    def release(self) -> None:
        """The call was not made, or refused: nothing counts as spent."""
        ...


class Spending(Protocol):
    """What calls are paid from."""

    def reserve(self, most: Usage) -> Hold:
        """Set the most that a call can use aside.

        Raises:
            BudgetExhausted: there is not that much left; the call must not be made.
        """
        ...

    def took(self, usage: Usage) -> None:
        """Say what a piece of the work took, its settled calls included: what goes beyond calls counts with them."""
        ...


_current: ContextVar[Spending | None] = ContextVar("pawl_spending", default=None)


def current_spending() -> Spending | None:
    """What calls are paid from here; none where nobody counts."""
    return _current.get()


@contextmanager
def paying(spending: Spending) -> Generator[None]:
    """Have calls that are made within this block, by whatever it calls, paid from a spending."""
    token = _current.set(spending)
    try:
        yield
    finally:
        _current.reset(token)
