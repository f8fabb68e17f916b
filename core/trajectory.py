"""Trajectories: the log of one attempt at one item, step by step.

A trajectory is written by the trusted side (the proxy to the model server and the runner), never by the
scaffold that it describes; what the scaffold says of itself comes in as a `Note` and is marked as such.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from .digest import digest_json


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_Count = Annotated[int, Field(ge=0, le=10**12)]
_Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
"""Bounds that nothing comes near, and below which the smallest units, and nano-dollars, fit into 63 bits."""


class Usage(_Frozen):
    """What something took, in units that repeat exactly, and in seconds of hardware, which don't.

    Money is put on it when it is metered (`safety.budget`).
    """

    input_tokens: _Count = 0
    output_tokens: _Count = 0
    verifications: _Count = 0
    """Calls of a trusted verifier, counted whether or not a cache answered."""
    training_steps: _Count = 0
    cpu_seconds: _Seconds = 0.0
    """Core-seconds of this machine."""
    gpu_seconds: _Seconds = 0.0
    """Seconds of one GPU of one's own; a hosted model's are in the price of its tokens."""

    @model_validator(mode="before")
    @classmethod
    def _without_money(cls, data: Any) -> Any:
        """Read what was stored when dollars were a field, which nothing ever filled."""
        if isinstance(data, dict) and "usd" in data:
            return {name: value for name, value in cast(dict[str, Any], data).items() if name != "usd"}
        return cast(Any, data)

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            verifications=self.verifications + other.verifications,
            training_steps=self.training_steps + other.training_steps,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            gpu_seconds=self.gpu_seconds + other.gpu_seconds,
        )

    @property
    def repeatable(self) -> "Usage":
        """Without the seconds of hardware, which differ between equal runs."""
        return self.model_copy(update={"cpu_seconds": 0.0, "gpu_seconds": 0.0})

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


class ModelCall(_Frozen):
    """One request to the policy, as the proxy saw it."""

    kind: Literal["model"] = "model"
    model: str
    prompt: str
    """The text that was completed (for chat: the messages rendered as JSON)."""
    completion: str
    prompt_token_ids: list[int] = []
    token_ids: list[int] = []
    """Ids of the sampled tokens."""
    logprobs: list[float] = []
    """Log-probability of each sampled token under the distribution it was drawn from (renormalised under a mask)."""
    choices: list[str] = []
    """The closed set the answer was drawn from; empty where it was free text."""
    choice_token_ids: list[list[int]] = []
    """Token ids of each choice, aligned with `choices`."""
    temperature: float = 1.0
    finish_reason: str = "stop"
    usage: Usage = Usage()


class ToolCall(_Frozen):
    """One call of a trusted tool that the scaffold made through its socket."""

    kind: Literal["tool"] = "tool"
    name: str
    arguments: dict[str, JsonValue]
    result: JsonValue
    usage: Usage = Usage()


class Note(_Frozen):
    """What the scaffold wrote about itself: evidence to read, never to trust."""

    kind: Literal["note"] = "note"
    text: str


Step = Annotated[ModelCall | ToolCall | Note, Field(discriminator="kind")]


class RolloutStop(StrEnum):
    """Why a rollout ended."""

    ANSWERED = "answered"
    """The scaffold wrote an output and exited with 0."""
    NO_OUTPUT = "no_output"
    """It exited with 0 and wrote nothing, or something that isn't the output's form."""
    CRASHED = "crashed"
    """It exited with another status, or died by a signal."""
    TIMED_OUT = "timed_out"
    """It ran longer than its wall-clock limit."""
    OUTPUT_LIMIT = "output_limit"
    """It printed or wrote more than its limit."""
    MODEL_FAILED = "model_failed"
    """The model endpoint was down, too slow, or answered garbage."""


class Grade(_Frozen):
    """The trusted score of one output. A missing or invalid output gets the task's worst value, never none."""

    value: float
    """In the unit and direction of the task's metric."""
    valid: bool
    reasons: list[str] = []
    """Why it was rejected, as stable codes; empty when valid."""
    estimated: bool = False
    """Whether the value rests on an estimated time rather than one taken on the device."""
    details: dict[str, JsonValue] = {}


class Trajectory(_Frozen):
    """One attempt at one item by one version."""

    version: str
    item: str
    seed: int
    steps: list[Step] = []
    output: str | None = None
    """The answer's text, as the scaffold wrote it."""
    stop: RolloutStop
    error: str | None = None
    """Tail of the scaffold's stderr, or the endpoint's message, where the stop was not an answer."""
    grade: Grade | None = None
    usage: Usage = Usage()
    trace_id: str = ""
    """OpenTelemetry-shaped id (32 hexadecimal digits); the one field that differs between equal runs."""

    @property
    def id(self) -> str:
        """Deterministic: the digest of version, item and seed."""
        return digest_json([self.version, self.item, self.seed])
