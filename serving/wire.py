"""The part of vLLM's OpenAI API that the local server speaks: bodies in, bodies out.

Fields that it doesn't know are ignored, as vLLM does, but for those that would change the answer.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from ..core import ConfigurationError, derive_seed
from .sampling import Answer, Request

CHAT_TOKENS = 512
"""Longest answer of a chat that names no limit."""


class StructuredOutputs(BaseModel):
    """vLLM's `structured_outputs`; here the answer is one of a closed set."""

    model_config = ConfigDict(extra="forbid")

    choice: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=4096)]


class _Body(BaseModel):
    model: str
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    n: int = Field(default=1, ge=1, le=256)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    ignore_eos: bool = False
    return_token_ids: bool = False
    prompt_logprobs: int | None = Field(default=None, ge=0, le=20)
    structured_outputs: StructuredOutputs | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        if isinstance(data, dict):
            fields: dict[str, Any] = data  # pyright: ignore[reportUnknownVariableType]
            for name in ("tools", "logit_bias", "guided_choice", "guided_json", "guided_regex", "use_beam_search"):
                if fields.get(name):
                    raise ValueError(f"{name!r} is not served by the local model; remove it or use vLLM")
            if (fields.get("response_format") or {"type": "text"}) != {"type": "text"}:
                raise ValueError(
                    "only response_format 'text' is served; name a closed set by structured_outputs.choice"
                )
            if fields.get("stream"):
                raise ValueError("the local model doesn't stream; send stream=false")
        return data  # pyright: ignore[reportUnknownVariableType]

    def requests(
        self, prompt: tuple[int, ...], adapter: str | None, limit: int, top: int, labels: Sequence[tuple[int, ...]]
    ) -> list[Request]:
        """One request for each of the `n` answers, with seeds of their own."""
        if any(not label for label in labels) or len(set(labels)) < len(labels):
            raise ConfigurationError("structured_outputs.choice has labels that are equal, or empty, as tokens.")
        first = self.seed if self.seed is not None else secrets.randbits(62)
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return [
            Request(
                prompt=prompt,
                adapter=adapter,
                max_tokens=limit,
                temperature=self.temperature,
                top_p=self.top_p,
                seed=derive_seed(first, "n", i) if i else first,
                stop=tuple(s for s in stop if s),
                choices=tuple(labels),
                ignore_eos=self.ignore_eos,
                alternatives=top,
            )
            for i in range(self.n)
        ]


class CompletionBody(_Body):
    """`POST /v1/completions`."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = Field(default=16, ge=0)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool = False
    allowed_token_ids: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=4096)] | None = None
    """What the one token that is asked for is drawn from."""

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.allowed_token_ids is not None and (self.max_tokens != 1 or self.structured_outputs is not None):
            raise ValueError("'allowed_token_ids' is served for max_tokens=1 and without structured_outputs")
        return self

    def prompts(self, encode: Callable[[str], tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Token ids of each prompt."""
        given = self.prompt
        if isinstance(given, str):
            return [encode(given)]
        if all(isinstance(part, int) for part in given):
            return [tuple(part for part in given if isinstance(part, int))]
        return [encode(part) if isinstance(part, str) else tuple(part) for part in given if not isinstance(part, int)]


class ChatBody(_Body):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[dict[str, JsonValue]], Field(min_length=1)]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    def texts(self) -> list[dict[str, str]]:
        """Messages as role and text.

        Raises:
            ConfigurationError: a message without a role, or with content that isn't text.
        """
        result: list[dict[str, str]] = []
        for message in self.messages:
            content = message.get("content")
            if isinstance(content, list):
                parts = [p.get("text") if isinstance(p, dict) and p.get("type") == "text" else None for p in content]
                content = "".join(str(p) for p in parts) if None not in parts else None
            role = message.get("role")
            if not isinstance(role, str) or not isinstance(content, str):
                raise ConfigurationError(
                    "Each message needs a role and a content of text; images and audio aren't served."
                )
            result.append({"role": "system" if role == "developer" else role, "content": content})
        return result


class AdapterBody(BaseModel):
    """`POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`."""

    lora_name: str = Field(min_length=1)
    lora_path: str = ""


class TokenizeBody(BaseModel):
    """`POST /tokenize`, vLLM's; nothing is added to the text."""

    prompt: str


Decode = Callable[[Sequence[int]], str]


def token_text(decode: Decode, token: int) -> str:
    """One token as text, by vLLM's form where it has none of its own."""
    return decode([token]) or f"token_id:{token}"


def completion_choice(
    index: int,
    body: CompletionBody,
    prompt: tuple[int, ...],
    answer: Answer,
    decode: Decode,
    scores: list[float | None],
) -> dict[str, Any]:
    """One entry of `choices` of a completion."""
    ids = [*prompt, *answer.token_ids] if body.echo else answer.token_ids
    given = [*scores, *answer.logprobs] if body.echo else answer.logprobs
    return {
        "index": index,
        "text": (decode(prompt) if body.echo else "") + answer.text,
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
        "logprobs": None
        if body.logprobs is None
        else {
            "tokens": [token_text(decode, token) for token in ids],
            "token_logprobs": list(given),
            "top_logprobs": [None] * (len(ids) - len(answer.token_ids))
            + [{token_text(decode, t): p for t, p in [*top, (i, lp)]} for top, i, lp in _places(answer)],
            "text_offset": _offsets([decode([token]) for token in ids]),
        },
        "prompt_logprobs": None
        if body.prompt_logprobs is None
        else [None if s is None else {str(t): {"logprob": s}} for t, s in zip(prompt, scores, strict=True)],
        "token_ids": list(answer.token_ids) if body.return_token_ids else None,
        "prompt_token_ids": list(prompt) if body.return_token_ids else None,
    }


def chat_choice(index: int, body: ChatBody, answer: Answer, decode: Decode) -> dict[str, Any]:
    """One entry of `choices` of a chat completion."""

    def entry(token: int, logprob: float) -> dict[str, JsonValue]:
        text = token_text(decode, token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    content: list[JsonValue] = [
        {**entry(token, logprob), "top_logprobs": [entry(t, p) for t, p in top]}
        for top, token, logprob in _places(answer)
    ]
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
        "logprobs": {"content": content} if body.logprobs else None,
        "token_ids": list(answer.token_ids) if body.return_token_ids else None,
    }


def envelope(kind: str, model: str, choices: list[dict[str, Any]], usage: dict[str, JsonValue]) -> dict[str, Any]:
    """The body around choices."""
    prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage,
    }


def usage(prompts: Sequence[tuple[int, ...]], answers: Sequence[Answer]) -> dict[str, JsonValue]:
    """Token counts; a prompt is counted once for its `n` answers."""
    given, drawn = sum(map(len, prompts)), sum(len(answer.token_ids) for answer in answers)
    return {
        "prompt_tokens": given,
        "completion_tokens": drawn,
        "total_tokens": given + drawn,
        "cpu_seconds": sum(answer.cpu_seconds for answer in answers),
        "prompt_tokens_details": {"cached_tokens": answers[0].cached_tokens if answers else 0},
    }


def failure(status: int, kind: str, message: str) -> dict[str, JsonValue]:
    """An error body in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def _places(answer: Answer) -> list[tuple[list[tuple[int, float]], int, float]]:
    return list(zip(answer.alternatives, answer.token_ids, answer.logprobs, strict=True))


def _offsets(texts: list[str]) -> list[JsonValue]:
    offsets: list[JsonValue] = []
    at = 0
    for text in texts:
        offsets.append(at)
        at += len(text)
    return offsets
