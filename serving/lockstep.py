"""Lock step: the rollouts of one batch send their model requests together, so that a server computes them together.

A request waits until every other live rollout has one waiting too, or has ended; then all go at once, numbered.
What shares a batch thus never depends on how fast a scaffold or a trusted tool happened to run.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto


class _State(Enum):
    THINKING = auto()
    """Its own code runs."""
    TOOL = auto()
    CALLING = auto()
    """Its request is with the server."""
    WAITING = auto()
    ALONE = auto()
    """It kept the others waiting once, and is out of step since."""
    ENDED = auto()


@dataclass(frozen=True)
class Turn:
    """A request's place in the batch that it is sent with."""

    batch: str
    size: int
    index: int


class Ended(Exception):
    """The rollout ended while its request waited."""


class Lockstep:
    """The barrier of one batch of rollouts.

    Args:
        name: what tells this batch's requests from every other's.
        members: how many rollouts take part; each is known by its index.
        lag_seconds: how long a member that merely runs may hold all others up, with nobody else moving, before it
            goes on alone. So a scaffold that loops for ever costs the others this long once, not their time limit.
    """

    def __init__(self, name: str, members: int, lag_seconds: float) -> None:
        self._name, self._lag = name, lag_seconds
        self._states = [_State.THINKING] * members
        self._waiting: dict[int, asyncio.Future[Turn]] = {}
        self._released = 0
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, member: int) -> Turn | None:
        """Wait for the others, then count as calling until `back`; none for a member that is out of step.

        Raises:
            Ended: `end` was called for this member.
        """
        if self._states[member] is _State.ENDED:
            raise Ended
        if self._states[member] is _State.ALONE:
            return None
        future = asyncio.get_running_loop().create_future()
        self._waiting[member] = future
        self._move(member, _State.WAITING)
        return await future

    def back(self, member: int) -> None:
        """The server has answered this member's request."""
        self._move(member, _State.THINKING)

    @contextmanager
    def tool(self, member: int) -> Generator[None]:
        """While a trusted tool runs for this member, the others wait for as long as it takes."""
        self._move(member, _State.TOOL)
        try:
            yield
        finally:
            self._move(member, _State.THINKING)

    def end(self, member: int) -> None:
        """The rollout is over; nobody waits for it any more."""
        future = self._waiting.pop(member, None)
        if future is not None and not future.done():
            future.set_exception(Ended())
        self._states[member] = _State.ENDED
        self._check()

    def _move(self, member: int, state: _State) -> None:
        if self._states[member] not in (_State.ENDED, _State.ALONE):
            self._states[member] = state
            self._check()

    def _check(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        holding = {state for state in self._states if state in (_State.THINKING, _State.TOOL, _State.CALLING)}
        if not self._waiting:
            return
        if not holding:
            self._release()
        elif holding == {_State.THINKING}:
            self._timer = asyncio.get_running_loop().call_later(self._lag, self._leave_behind)

    def _release(self) -> None:
        batch = f"{self._name}-{self._released}"
        self._released += 1
        waiting, self._waiting = sorted(self._waiting.items()), {}
        for index, (member, future) in enumerate(waiting):
            self._states[member] = _State.CALLING
            future.set_result(Turn(batch, len(waiting), index))

    def _leave_behind(self) -> None:
        self._timer = None
        self._states = [_State.ALONE if state is _State.THINKING else state for state in self._states]
        self._check()
