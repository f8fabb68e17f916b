"""Model and tool calls as spans of the GenAI conventions, with the metrics that belong to them.

    with model_call(Operation.CHAT, body, Server(endpoint.base_url)) as call:
        reply = await ask(body)
        call.answered(reply)

Messages and arguments stay out unless OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks for them.
"""

import json
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

from . import names
from .names import Operation
from .spans import Attributes, AttributeValue, Place, Span, here, measure, span

OWN_PROVIDER = "pawl"
"""`gen_ai.provider.name` of the local server."""
PROVIDERS = {
    "openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "deepseek.com": "deepseek",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}
"""`gen_ai.provider.name` by the end of the host's name; any other host is called by the API it speaks, `openai`."""
_COPIED = {
    "seed": names.REQUEST_SEED,
    "max_tokens": names.REQUEST_MAX_TOKENS,
    "temperature": names.REQUEST_TEMPERATURE,
    "top_p": names.REQUEST_TOP_P,
}


@dataclass(frozen=True)
class Server:
    """Who answers."""

    base_url: str
    socket: str | None = None
    """Path of the Unix socket, where there is one."""
    local: bool = False
    """Whether it is Pawl's own."""


class ModelCall:
    """A model call while it goes on."""

    def __init__(self, current: Span, place: Place, common: Attributes) -> None:
        self._current, self._place, self._common = current, place, common

    def answered(self, reply: object) -> None:
        """Tell what the endpoint answered: an OpenAI completion; what doesn't look like one is left out."""
        body = _mapping(reply)
        choices = [_mapping(each) for each in _list(body.get("choices"))]
        self._set(names.RESPONSE_ID, body.get("id"), str)
        self._set(names.RESPONSE_MODEL, body.get("model"), str)
        reasons = [str(each["finish_reason"]) for each in choices if isinstance(each.get("finish_reason"), str)]
        if reasons:
            self._current.set(names.FINISH_REASONS, reasons)
        usage = _mapping(body.get("usage"))
        for kind, field, name in (
            ("input", "prompt_tokens", names.INPUT_TOKENS),
            ("output", "completion_tokens", names.OUTPUT_TOKENS),
        ):
            tokens = usage.get(field)
            if isinstance(tokens, int):
                self._current.set(name, tokens)
                self._place.measure(names.TOKEN_USAGE, tokens, {**self._common, names.TOKEN_TYPE: kind})
        if self._place.content:
            self._current.set(names.OUTPUT_MESSAGES, _json([_answer(each) for each in choices]))

    def _set(self, name: str, value: object, kind: type[str]) -> None:
        if isinstance(value, kind):
            self._current.set(name, value)


class _NoCall:
    """A model call where telemetry isn't open."""

    def answered(self, reply: object) -> None:
        """Do nothing."""


@contextmanager
def model_call(
    operation: Operation,
    request: Mapping[str, Any],
    server: Server,
    *,
    within: Place | None = None,
) -> Generator[ModelCall | _NoCall]:
    """Time one call of a model.

    Args:
        operation: chat or text completion.
        request: the body that is sent, in OpenAI's form.
        server: who is asked.
        within: the place above; the task's own where none is given.
    """
    place = within or here()
    if place is None:
        yield _NoCall()
        return
    common: dict[str, AttributeValue] = {names.OPERATION: operation.value, **_named(server)}
    model = request.get("model")
    if isinstance(model, str):
        common[names.REQUEST_MODEL] = model
    attributes = dict(common)
    for field, name in _COPIED.items():
        value = request.get(field)
        if isinstance(value, int | float):
            attributes[name] = value
    if place.content:
        attributes[names.INPUT_MESSAGES] = _json(_question(request))
    started = time.perf_counter()
    failed: dict[str, AttributeValue] = {}
    try:
        with span(f"{operation.value} {model or ''}".strip(), attributes, client=True, within=place) as current:
            yield ModelCall(current, place, common)
    except Exception as error:
        failed = {names.ERROR: type(error).__name__}
        raise
    finally:
        measure(names.OPERATION_DURATION, time.perf_counter() - started, {**common, **failed}, within=place)


class ToolCall:
    """A tool call while it goes on."""

    def __init__(self, current: Span, content: bool) -> None:
        self._current, self._content = current, content

    def answered(self, result: object) -> None:
        """Tell what the tool answered."""
        if self._content:
            self._current.set(names.TOOL_RESULT, _json(result))


@contextmanager
def tool_call(name: str, arguments: object, *, within: Place | None = None) -> Generator[ToolCall]:
    """Time one call of a trusted tool by an agent."""
    place = within or here()
    content = place is not None and place.content
    attributes: dict[str, AttributeValue] = {
        names.OPERATION: Operation.EXECUTE_TOOL.value,
        names.TOOL: name,
        names.TOOL_TYPE: "function",
    }
    if content:
        attributes[names.TOOL_ARGUMENTS] = _json(arguments)
    with span(f"{Operation.EXECUTE_TOOL} {name}", attributes, within=place) as current:
        yield ToolCall(current, content)


@lru_cache(maxsize=16)
def _named(server: Server) -> Mapping[str, AttributeValue]:
    """Who answers, without what may be secret in a URL."""
    try:
        url = urlsplit(server.base_url)
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        host, port = "", 0
    provider = next((name for end, name in PROVIDERS.items() if host == end or host.endswith(f".{end}")), "openai")
    found: dict[str, AttributeValue] = {names.PROVIDER: OWN_PROVIDER if server.local else provider}
    if server.socket:
        found[names.SERVER] = server.socket
    elif host:
        found |= {names.SERVER: host, names.SERVER_PORT: port}
    return found


def _question(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = [_mapping(each) for each in _list(request.get("messages"))]
    if not messages and isinstance(request.get("prompt"), str):
        messages = [{"role": "user", "content": request["prompt"]}]
    return [{"role": str(each.get("role", "user")), "parts": _parts(each.get("content"))} for each in messages]


def _answer(choice: Mapping[str, Any]) -> dict[str, Any]:
    text = choice.get("text", _mapping(choice.get("message")).get("content"))
    return {"role": "assistant", "parts": _parts(text), "finish_reason": str(choice.get("finish_reason") or "stop")}


def _parts(content: object) -> list[dict[str, str]]:
    return [{"type": "text", "content": content if isinstance(content, str) else _json(content)}]


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
