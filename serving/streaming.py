"""An answer as a stream of events: what a client of OpenAI's API reads when it asked for `stream`.

The endpoint answers whole, since the answer is checked and recorded first; so the stream has its text in one piece.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import JsonValue

from .recording import Kind


def events(kind: Kind, reply: JsonValue, *, usage: bool) -> Iterator[bytes]:
    """Server-sent events of a recorded answer.

    Args:
        kind: completion or chat.
        reply: the endpoint's answer.
        usage: whether a last chunk tells the usage (`stream_options.include_usage`).
    """
    whole: dict[str, Any] = reply if isinstance(reply, dict) else {}
    shared = {
        "id": whole.get("id", "pawl"),
        "object": "chat.completion.chunk" if kind is Kind.CHAT else "text_completion",
        "created": whole.get("created", 0),
        "model": whole.get("model", "policy"),
    }
    first: dict[str, Any] = whole["choices"][0]
    text = first["message"]["content"] if kind is Kind.CHAT else first["text"]
    said = {"delta": {"role": "assistant", "content": text}} if kind is Kind.CHAT else {"text": text}
    over: dict[str, Any] = {"delta": {}} if kind is Kind.CHAT else {"text": ""}
    for part, logprobs, reason in (
        (said, first.get("logprobs"), None),
        (over, None, first.get("finish_reason") or "stop"),
    ):
        choice = {"index": 0, **part, "logprobs": logprobs, "finish_reason": reason}
        yield _event(shared | {"choices": [choice]})
    if usage:
        yield _event(shared | {"choices": [], "usage": whole.get("usage")})
    yield b"data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
