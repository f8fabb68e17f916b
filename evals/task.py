"""What a task is: items drawn from a generator, a metric, and a trusted grade for one output.

A complete task is a name, a metric, `items`, `seed_scaffold`, and `grade`; see `examples/` for one in 60 lines.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, JsonValue

from ..core import Grade
from ..serving.tools import Tool


class Split(StrEnum):
    """What a set of items is for; all but the first are sealed in the judge."""

    OPTIMISE = "optimise"
    HOLDOUT = "holdout"
    REGRESSION = "regression"
    ADVERSARIAL = "adversarial"
    CANARY = "canary"


class Direction(StrEnum):
    """Which way a metric is better."""

    MAXIMISE = "maximise"
    MINIMISE = "minimise"


class Metric(BaseModel):
    """Name, unit and direction of a task's grade."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    direction: Direction
    worst: float
    """Grade of a missing or invalid output."""
    best: float
    """A value that no honest output is better than; with `worst` it bounds every effect."""
    margin: float
    """How much worse on a slice still counts as not inferior, in the metric's unit."""
    ordinal: bool = False
    """Whether grades only rank: which of two is better means something, by how much doesn't."""

    def signed(self, value: float) -> float:
        """The value turned so that more is better."""
        return value if self.direction is Direction.MAXIMISE else -value


class Item(BaseModel):
    """One case that a task puts to an agent."""

    model_config = ConfigDict(frozen=True)

    id: str
    task: str
    split: Split
    slice: str
    """The kind of item, for non-inferiority by slice; at most a handful of distinct ones a task."""
    payload: dict[str, JsonValue]
    """What the agent is given: exactly this, as `item.json`."""
    gold: JsonValue = None
    """What only a grader may see; always none in what leaves the judge, and absent from `item.json`."""


class Cheat(BaseModel):
    """A planted or suspected cheat that a task found in an output."""

    model_config = ConfigDict(frozen=True)

    code: str
    evidence: str


@runtime_checkable
class Task(Protocol):
    """A family of items with a trusted grade.

    Implementations are stateless between calls but for caches, and safe to use from one event loop.
    """

    name: str
    metric: Metric

    def items(self, split: Split, seed: int, count: int, start: int = 0) -> Sequence[Item]:
        """Draw items `start` to `start + count` of a split's stream: the same for the same seed, without end."""
        ...

    def seed_scaffold(self, capable: bool) -> Mapping[str, bytes]:
        """The first scaffold: a file tree with `agent.py` and `scaffold.json`.

        Args:
            capable: whether the model can write free text or code; a small one is asked to choose among labels.
        """
        ...

    def tools(self, item: Item) -> Sequence[Tool]:
        """Trusted tools that an agent may call while it works on this item."""
        ...

    async def grade(self, item: Item, output: str | None) -> Grade:
        """Grade one output; a bad one gets `metric.worst` with reasons, never an exception."""
        ...

    async def perturb(self, item: Item, output: str) -> Grade:
        """Grade the same output under perturbed conditions (for the kernel task: other device constants)."""
        ...

    def cheats(self, item: Item, output: str | None, grade: Grade) -> Sequence[Cheat]:
        """Look for what no honest output does (for example a grade beyond what physics allows)."""
        ...

    async def close(self) -> None:
        """Give back processes and files."""
        ...
