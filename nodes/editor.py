"""The scaffold editor Protocol: from a live scaffold and a decision to a changed scaffold.

edit = await TypedEditor().edit(scaffold, decision, evidence, seed)
candidate = edit.apply(scaffold)
"""

import difflib
from collections.abc import Mapping
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from .decision import Decision, Operator
from .evidence import RoundEvidence


class Edit(BaseModel):
    """A change of a scaffold; with the operator `NONE`, no change and the reason in `summary`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, str] = {}
    """The files that change: path to the whole new text. The others stay."""
    operator: Operator
    summary: str
    diff: str = ""
    """Unified diff of the change."""

    def apply(self, scaffold: Mapping[str, bytes]) -> dict[str, bytes]:
        """The scaffold's whole tree after the edit."""
        return {**scaffold, **{path: text.encode() for path, text in self.files.items()}}


class ScaffoldEditor(Protocol):
    """Changes a scaffold."""

    async def edit(self, scaffold: Mapping[str, bytes], decision: Decision, evidence: RoundEvidence, seed: int) -> Edit:
        """Propose a scaffold that differs from the live one and from every candidate of the history.

        Returns an edit with the operator `NONE` where nothing applies; never raises for what a scaffold holds.
        """
        ...


def unified_diff(before: Mapping[str, bytes], files: Mapping[str, str]) -> str:
    """Unified diff from a tree to the new texts of some of its files, in the order of the paths."""
    lines: list[str] = []
    for path in sorted(files):
        old = before[path].decode(errors="replace") if path in before else ""
        hunks = difflib.unified_diff(
            old.splitlines(),
            files[path].splitlines(),
            f"a/{path}" if path in before else "/dev/null",
            f"b/{path}",
            lineterm="",
        )
        lines += [*hunks]
    return "\n".join(lines) + "\n" if lines else ""


def nothing(reason: str) -> Edit:
    """An edit that changes nothing, and says why."""
    return Edit(operator=Operator.NONE, summary=reason)
