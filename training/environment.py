"""An environment that makes a job's rollouts in the trainer itself, as data: where its code is, and what it is run on.

    EnvironmentSpec(code="env/", factory="guess:Guess", rows=({"prompt": "Guess.", "word": "sky"},), steps=20)

`factory` makes objects as TRL's `GRPOTrainer` takes them:

    class Guess:
        def reset(self, prompt, word): ...       # the row; a text that it returns is added to the prompt
        def look(self, place: int) -> str: ...   # every other public method is a tool, told by its docstring
        def get_reward(self) -> float: ...       # of the finished rollout; more is better

Its code runs in the trainer's process: confined as the trainer is, without network and keys, but free to write to the
job's run dir. It is reset before every rollout and must then remember nothing, and its draws must come from the row or
from Python's, numpy's or torch's generators, which the job seeds before each step: a resumed job repeats an unbroken
one only so.
"""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

_Import = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$")]


class EnvironmentSpec(BaseModel):
    """One environment, and how it is played."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    code: Path
    """Folder of the modules; read-only to the job. Its content is part of what a checkpoint belongs to."""
    factory: _Import
    """"module:name" of a class or function without arguments, in `code`."""
    reward: _Import | None = None
    """"module:name" of a reward function as TRL takes it, added to what `get_reward` says."""
    rows: Annotated[tuple[dict[str, JsonValue], ...], Field(min_length=1)]
    """What `reset` is given, one a group. `prompt` is a text, or chat messages of which the last is the user's."""
    steps: int = Field(ge=1, le=10**6)
    """Optimiser steps; each plays `minibatch` rollouts, in groups."""
    group: int = Field(default=8, ge=2)
    """Rollouts of one row, compared with each other."""
    max_tokens: int = Field(default=256, ge=1)
    """Of a rollout after its prompt, the tools' answers among them."""
    tool_turns: int = Field(default=8, ge=0)
    """Most rounds of tool calls."""
    temperature: float = Field(default=1.0, gt=0)
    chat_template: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]*$")
    """File in `code` that stands for the tokenizer's template, where that can't render tool calls."""

    def content_digest(self) -> str:
        """SHA-256 over the files of `code`, names and bytes."""
        digest = hashlib.sha256()
        for path in sorted(self.code.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                data = path.read_bytes()
                digest.update(f"{path.relative_to(self.code)}\0{len(data)}\0".encode() + data)
        return digest.hexdigest()
