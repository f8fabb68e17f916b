"""The typed part of a scaffold: `scaffold.json`, which a scaffold editor may change field by field.

The rest of a scaffold (agent.py, prompts) is free text, which only an editor with a capable model touches.
"""

import json
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue

FILE = "scaffold.json"


class Mode(StrEnum):
    """How the agent gets its answer out of the model."""

    SOURCE = "source"
    """The model writes the answer itself, as free text or code."""
    SCHEDULE = "schedule"
    """The model chooses the fields of the answer one by one from closed sets of labels."""


class Exemplar(BaseModel):
    """One worked case that is shown to the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    payload: dict[str, JsonValue]
    output: str
    """The output's text, as an agent would write it."""
    grade: float


class ScaffoldConfig(BaseModel):
    """The fields of `scaffold.json`; a task's `agent.py` reads them with the standard library alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode
    prompt: dict[str, str] = {}
    """Named prompt parts, rendered in the order of their names."""
    exemplars: list[Exemplar] = []
    samples: int = Field(default=1, ge=1, le=16)
    """Answers drawn a rollout; beyond one, the `verify` tool picks the best."""
    repairs: int = Field(default=0, ge=0, le=8)
    """Further answers drawn when the `verify` tool rejects one."""
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    pruned: list[dict[str, str]] = []
    """Partial assignments (field to value) that the agent never completes, because they are always refused."""

    def text(self) -> str:
        """What `scaffold.json` holds: in one form whoever writes it, so that a diff shows what changed."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
