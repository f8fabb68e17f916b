"""A task that takes seconds and has the real effects: name the rewarded one of eight labels for a context word.

A label's reward falls with its distance, around the ring of labels, from the one that the context's kind rewards
most; two labels are always refused. So there is something for each lever: pruning the refused labels, and learning
the rewarded one.
"""

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from ..core import Grade, Usage, derive_seed, digest_json
from ..serving.tools import Tool, ToolResult
from .bundled import bundled_scaffold
from .registry import TaskEnvironment
from .scaffold import Mode, ScaffoldConfig
from .task import Cheat, Direction, Item, Metric, Split

LABELS = ("A", "B", "C", "D", "E", "F", "G", "H")
REFUSED = frozenset({"A", "F"})
WORDS = (
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven",
    "inlet", "jetty", "knoll", "larch", "mesa", "north", "ocean", "prairie",
)  # fmt: skip
KINDS = {"east": "C", "west": "D"}
"""Kinds of context, which are the slices, and the label that each rewards most."""


def kind_of(word: str) -> str:
    """The kind of a context word: known to the grader alone, by a hash."""
    return sorted(KINDS)[int(digest_json(["labels", word])[0], 16) % len(KINDS)]


def reward(word: str, label: str) -> float:
    """1 for the rewarded label, less by a quarter for each step around the ring of labels, never below 0.

    A refused label's reward is 0 wherever it stands.
    """
    if label in REFUSED:
        return 0.0
    distance = abs(LABELS.index(label) - LABELS.index(KINDS[kind_of(word)]))
    return 1.0 - min(distance, len(LABELS) - distance) / 4


class LabelsTask:
    """Choose among labels; graded in the process itself, since an answer is only a label."""

    name = "labels"
    metric = Metric(name="reward", unit="", direction=Direction.MAXIMISE, worst=0.0, best=1.0, margin=0.15)

    def __init__(self, environment: TaskEnvironment) -> None:
        del environment  # a label needs no sandbox to be graded

    def items(self, split: Split, seed: int, count: int, start: int = 0) -> Sequence[Item]:
        """Context words; the visible split has each of the sixteen once, then again as the same items."""
        return [self._item(split, seed, index) for index in range(start, start + count)]

    def _item(self, split: Split, seed: int, index: int) -> Item:
        if split is Split.OPTIMISE:
            place = index % len(WORDS)
            word = WORDS[(place + derive_seed(seed, "words")) % len(WORDS)]
        else:
            place = index
            word = WORDS[derive_seed(seed, split, index) % len(WORDS)]
        return Item(
            id=f"labels-{digest_json([split, seed, place])[:16]}",
            task=self.name,
            split=split,
            slice=kind_of(word),
            payload={"context": word, "labels": list(LABELS)},
        )

    def seed_scaffold(self, capable: bool) -> Mapping[str, bytes]:
        """The bundled agent: it asks for a label, or for text with a label in it."""
        config = ScaffoldConfig(
            mode=Mode.SOURCE if capable else Mode.SCHEDULE,
            prompt={"1_task": "Name the label that fits the word."},
        )
        return bundled_scaffold("labels", config)

    def tools(self, item: Item) -> Sequence[Tool]:
        """`verify`: whether a label is accepted, why not, and what it is worth."""

        async def verify(arguments: dict[str, JsonValue]) -> ToolResult:
            output = arguments.get("output")
            grade = await self.grade(item, output if isinstance(output, str) else json.dumps(output))
            answer: dict[str, JsonValue] = {
                "accepted": grade.valid,
                "reasons": list(grade.reasons),
                "value": grade.value,
            }
            return ToolResult(answer, Usage(verifications=1))

        return [Tool("verify", verify)]

    async def grade(self, item: Item, output: str | None) -> Grade:
        """The label's reward; a refused, unknown or missing label gets 0 and says why."""
        label = _label(output)
        if label is None:
            return self._rejected("no-output" if output is None else "bad-output")
        if label in REFUSED:
            return self._rejected("refused")
        return Grade(value=reward(str(item.payload["context"]), label), valid=True, details={"label": label})

    def _rejected(self, reason: str) -> Grade:
        return Grade(value=self.metric.worst, valid=False, reasons=[reason], details={"failure_class": reason})

    async def perturb(self, item: Item, output: str) -> Grade:
        """A label's reward has no conditions to perturb: the same grade."""
        return await self.grade(item, output)

    def cheats(self, item: Item, output: str | None, grade: Grade) -> Sequence[Cheat]:
        """An answer that carries more than a label is trying something."""
        if output is not None and len(output) > 256:
            return [Cheat(code="oversized-answer", evidence=f"{len(output)} characters where a label was asked for")]
        return []

    async def close(self) -> None:
        """Nothing to give back."""


def _label(output: str | None) -> str | None:
    try:
        answer: object = json.loads(output or "")
    except ValueError:
        return None
    match answer:
        case {"label": str(label)} if label in LABELS:
            return label
        case _:
            return None
