"""Choices at a server that masks by a grammar: where each label is one token, a draw from exactly these tokens.

A grammar lets a server write a label in any tokens that spell it, so that nobody can tell which others a token was
drawn from, and a trainer can't renormalise as the server did. Labels of one token each need no grammar: with
`allowed_token_ids` the draw is from their exact likelihood, as at the local server. Labels of several tokens go to the
server as they are, and give no datums.
"""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from pydantic import JsonValue

Complete = Callable[[dict[str, Any]], Awaitable[JsonValue]]
"""Sends one body to `/completions` and returns the reply."""


class ChoiceTokens:
    """The tokens of labels at one server, asked for once each."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], list[int] | None] = {}

    async def single(self, model: str, labels: list[str], complete: Complete) -> list[int] | None:
        """The token of each label; none if one has several, or two share one.

        Args:
            model: whose tokenizer.
            labels: what may be chosen.
            complete: asks the server.
        """
        tokens: list[int] = []
        for label in labels:
            if (model, label) not in self._known:
                self._known[model, label] = await _tokens(model, label, complete)
            found = self._known[model, label]
            if found is None or len(found) > 1 or found[0] in tokens:
                return None
            tokens += found
        return tokens


def masked(body: dict[str, Any], tokens: list[int]) -> dict[str, Any]:
    """The body of a request that draws one of these tokens."""
    kept = {name: value for name, value in body.items() if name not in ("structured_outputs", "stop")}
    return kept | {"allowed_token_ids": tokens, "max_tokens": 1}


def told(reply: JsonValue, labels: list[str], tokens: list[int]) -> JsonValue:
    """The reply to such a request, in the words of a choice: it ended because a label is complete."""
    if isinstance(reply, dict):
        for choice in cast("list[Any]", reply.get("choices") or []):
            if isinstance(choice, dict):
                answer = cast("dict[str, JsonValue]", choice)
                answer["finish_reason"] = "stop"
                answer["choice_token_ids"] = [[token] for token in tokens]
                _name(answer, labels, tokens)
    return reply


def _name(answer: dict[str, JsonValue], labels: list[str], tokens: list[int]) -> None:
    """Take the label's own words for its token, which a server may print without its space."""
    drawn = answer.get("token_ids")
    if isinstance(drawn, list) and len(drawn) == 1 and drawn[0] in tokens:
        label = labels[tokens.index(cast(int, drawn[0]))]
        if isinstance(answer.get("text"), str):
            answer["text"] = label
        message = answer.get("message")
        if isinstance(message, dict):
            message["content"] = label


async def _tokens(model: str, label: str, complete: Complete) -> list[int] | None:
    body = {"model": model, "prompt": label, "max_tokens": 1, "add_special_tokens": False, "return_token_ids": True}
    reply = await complete(body)
    try:
        found = cast("Any", reply)["choices"][0]["prompt_token_ids"]
    except (KeyError, IndexError, TypeError):
        return None
    if isinstance(found, list) and found and all(isinstance(each, int) for each in cast("list[Any]", found)):
        return cast("list[int]", found)
    return None
