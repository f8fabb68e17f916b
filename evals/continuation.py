"""A task whose attempts may begin from what earlier rounds found: an optional part of a task."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ..core import Trajectory
from .evaluate import Attempt


@runtime_checkable
class Continues(Protocol):
    """A task that carries on from earlier outputs. Only visible items are ever continued: sealed ones begin afresh."""

    def continued(self, attempts: Sequence[Attempt], earlier: Sequence[Trajectory], seed: int) -> list[Attempt]:
        """The same attempts, their items' payloads with what to begin from.

        A pure function, so that a resumed round begins where an unbroken one does, and live and candidate alike.

        Args:
            attempts: of one round, at items of the optimise split.
            earlier: graded trajectories of the campaign's earlier rounds on that split, in their order.
            seed: the campaign's.
        """
        ...
