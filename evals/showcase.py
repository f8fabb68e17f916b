"""A task's best output, shown: an optional part of a task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from ..core import Trajectory


class Showcase(BaseModel):
    """One output in a file, and what it is worth."""

    model_config = ConfigDict(frozen=True)

    task: str
    path: Path
    lines: list[str]
    """What to tell a person, a line each."""
    figures: dict[str, float]
    """The same for programs."""


@runtime_checkable
class ShowsBest(Protocol):
    """A task that can show its best output."""

    async def showcase(self, best: Sequence[Trajectory], folder: Path) -> Showcase | None:
        """Choose among the best trajectories, highest grade first, write the output below `folder`, and rate it."""
        ...
