"""Between a scaffold's request and the trajectory: what is sent on, and how an answer becomes a `ModelCall`.

Completions and chat completions, in OpenAI's form with vLLM's additions (`structured_outputs.choice`,
`return_token_ids`, `token_ids`, `prompt_token_ids`).
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from ..core import ModelCall, Usage, Version, canonical_json

_LARGEST_CHOICE = 1024
TEMPLATE_TOKENS = 256
"""The most that a chat's template adds to its messages."""
_BEYOND = 8
"""A reply that tells of more than so many times its bound is wrong; some servers count a little more than was asked."""


class Kind(StrEnum):
    """The two forms of request; the value is the path below the base URL."""

    COMPLETION = "completions"
    CHAT = "chat/completions"


class _Choice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    choice: list[str] = Field(min_length=1, max_length=_LARGEST_CHOICE)


class _TextPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["text"]
    text: str


class _StreamOptions(BaseModel):
    model_config = ConfigDict(frozen=True)

    include_usage: bool = False


class _ResponseFormat(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["text"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Annotated[str, Field(pattern="^(system|user|assistant)$")]
    content: str

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, message: Any) -> Any:
        """Text in parts becomes one text; a client that sends an answer back sends its empty fields, too."""
        if not isinstance(message, dict):
            return message
        given = cast("dict[str, Any]", message)
        found = {name: value for name, value in given.items() if name in cls.model_fields or value}
        parts = found.get("content")
        if isinstance(parts, list):
            texts = TypeAdapter(list[_TextPart]).validate_python(parts)
            found["content"] = "".join(part.text for part in texts)
        return found


class Asked(BaseModel):
    """What a scaffold may ask for; every other field of its request is dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str | None = None
    messages: list[_Message] | None = None
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    max_tokens: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )
    stop: str | list[str] | None = None
    structured_outputs: _Choice | None = None
    stream: bool = False
    """Answered in one piece, as a stream."""
    stream_options: _StreamOptions | None = None
    tools: Annotated[list[JsonValue], Field(max_length=0)] | None = None
    functions: Annotated[list[JsonValue], Field(max_length=0)] | None = None
    response_format: _ResponseFormat | None = None
    """These three would change what an answer is; here it is text, and a request for more is refused."""

    @classmethod
    def parse(cls, kind: Kind, body: JsonValue) -> "Asked":
        """Check a request's body.

        Raises:
            ValueError: it isn't a request that Pawl forwards; the message says which field is wrong.
        """
        try:
            asked = cls.model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise ValueError(f"{where}: {first['msg']}") from error
        if kind is Kind.COMPLETION and asked.prompt is None:
            raise ValueError("prompt: expected a text")
        if kind is Kind.CHAT and not asked.messages:
            raise ValueError("messages: expected a list of role and content")
        return asked


def forwarded(kind: Kind, asked: Asked, version: Version, seed: int, room: int) -> dict[str, Any]:
    """The body that goes to the server: the version decides the model, the runner the seed.

    Args:
        kind: completion or chat.
        asked: the scaffold's request; the version's sampling stands in for what it leaves open.
        version: what is rolled out.
        seed: of this call.
        room: tokens that the rollout may still spend.
    """
    sampling = version.sampling
    body: dict[str, Any] = {
        "model": version.model,
        "seed": seed,
        "n": 1,
        "temperature": sampling.temperature if asked.temperature is None else asked.temperature,
        "top_p": sampling.top_p if asked.top_p is None else asked.top_p,
        "max_tokens": min(asked.max_tokens or sampling.max_tokens, sampling.max_tokens, room),
        "return_token_ids": True,
    }
    if kind is Kind.CHAT:
        body |= {"messages": [message.model_dump() for message in asked.messages or []], "logprobs": True}
    else:
        body |= {"prompt": asked.prompt, "logprobs": 1}
    if asked.stop is not None:
        body["stop"] = list(asked.stop) if isinstance(asked.stop, list) else asked.stop
    if asked.structured_outputs is not None:
        body["structured_outputs"] = {"choice": list(asked.structured_outputs.choice)}
    return body


def at_most(kind: Kind, body: Mapping[str, Any]) -> Usage:
    """What a forwarded request can use: a tokenizer makes no more tokens of a text than it has bytes.

    A chat's template adds its own words, among them a system prompt where there is none.
    """
    text = body["prompt"].encode() if kind is Kind.COMPLETION else canonical_json(body["messages"])
    template = TEMPLATE_TOKENS if kind is Kind.CHAT else 1
    return Usage(input_tokens=len(text) + template, output_tokens=body["max_tokens"])


class _Logprob(BaseModel):
    logprob: float


class _Logprobs(BaseModel):
    token_logprobs: list[float] | None = None
    content: list[_Logprob] | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    cpu_seconds: float = Field(default=0.0, ge=0.0, le=1e6)
    """Told by the local server alone."""


class _AnswerMessage(BaseModel):
    content: str | None = None


class _Answer(BaseModel):
    text: str | None = None
    message: _AnswerMessage | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    choice_token_ids: list[list[int]] | None = None


class _Reply(BaseModel):
    choices: list[_Answer] = Field(min_length=1)
    usage: _Usage | None = None
    prompt_token_ids: list[int] | None = None


_REPLY: TypeAdapter[_Reply] = TypeAdapter(_Reply)


def recorded(kind: Kind, asked: Asked, body: Mapping[str, Any], reply: JsonValue) -> ModelCall:
    """The step that a request, as asked and as forwarded, and its reply make.

    Raises:
        ValueError: the reply isn't an OpenAI completion, answers outside the choices, has log-probabilities that are
            no numbers or don't match its tokens, or tells no usage that can be: then nobody knows what it took.
    """
    try:
        parsed = _REPLY.validate_python(reply)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the reply'}: {first['msg']}") from error
    answer = parsed.choices[0]
    text = answer.text if kind is Kind.COMPLETION else answer.message.content if answer.message else None
    if text is None:
        raise ValueError("choices.0: no text")
    found = answer.logprobs or _Logprobs()
    logprobs = (
        (found.token_logprobs or []) if kind is Kind.COMPLETION else [each.logprob for each in found.content or []]
    )
    token_ids = answer.token_ids or []
    if not all(map(math.isfinite, logprobs)):
        raise ValueError("choices.0.logprobs: not finite")
    if token_ids and logprobs and len(token_ids) != len(logprobs):
        raise ValueError(f"{len(token_ids)} token ids but {len(logprobs)} log-probabilities")
    choices = asked.structured_outputs.choice if asked.structured_outputs else []
    if choices and text not in choices:
        raise ValueError(f"answered {text[:80]!r}, which is none of the {len(choices)} choices")
    labels = answer.choice_token_ids or []
    if labels and len(labels) != len(choices):
        raise ValueError(f"choices.0.choice_token_ids: {len(labels)} labels where {len(choices)} were offered")
    prompt_ids = answer.prompt_token_ids or parsed.prompt_token_ids or []
    usage = _possible(
        parsed.usage or _Usage(prompt_tokens=len(prompt_ids), completion_tokens=len(token_ids)),
        text,
        at_most(kind, body),
    )
    return ModelCall(
        model=body["model"],
        prompt=body["prompt"] if kind is Kind.COMPLETION else canonical_json(body["messages"]).decode(),
        completion=text,
        prompt_token_ids=prompt_ids,
        token_ids=token_ids,
        logprobs=logprobs,
        choices=choices,
        choice_token_ids=labels,
        temperature=body["temperature"],
        finish_reason=answer.finish_reason or "stop",
        usage=Usage(
            input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, cpu_seconds=usage.cpu_seconds
        ),
    )


def _possible(usage: _Usage, text: str, most: Usage) -> _Usage:
    """The usage, if such an answer can have taken that."""
    if usage.prompt_tokens == 0 and most.input_tokens > 1:
        raise ValueError("usage: no tokens of the prompt are counted, and no token ids tell them")
    if usage.completion_tokens == 0 and text:
        raise ValueError("usage: no tokens of the answer are counted, and no token ids tell them")
    if usage.prompt_tokens > _BEYOND * most.input_tokens or usage.completion_tokens > _BEYOND * most.output_tokens:
        raise ValueError(
            f"usage: {usage.prompt_tokens} and {usage.completion_tokens} tokens, where at most {most.input_tokens} and "
            f"{most.output_tokens} are possible"
        )
    return usage
