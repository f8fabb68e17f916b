"""Asking a language model for one object of a schema: structured output where it has it, JSON in its text else.

answer = await ask(chat, Answer, system, question, check)
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

import openai
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict, ValidationError

from ..core import Conflict, PawlError, Usage
from ..safety.budget import LimitReached, Scope, current_spending
from ..serving.forwarding import turned_away

_ENVELOPE = 1024
"""Tokens of roles, names and the like, around the texts of a request."""

_MOST_OUTPUT = 16_384
"""Taken for the bound of an answer where the model names none."""

_Answer = TypeVar("_Answer", bound=BaseModel)
_Checked = TypeVar("_Checked")


class Unusable(BaseModel):
    """No usable answer, and why: the caller goes on without the model."""

    model_config = ConfigDict(frozen=True)

    why: str


async def ask(
    chat: BaseChatModel, schema: type[_Answer], system: str, question: str, check: Callable[[_Answer], _Checked]
) -> _Checked | Unusable:
    """Ask once, and once more with the reason if the answer can't be used.

    Args:
        chat: any chat model; without structured output of its own it is shown the JSON schema.
        schema: what is asked for.
        system: who the model is and what it must heed.
        question: the material.
        check: turns an answer into what the caller wants, or raises ValueError with what is wrong with it.

    Whatever the endpoint raises makes the answer unusable; it is never raised again.

    Raises:
        LimitReached: the campaign's or the day's budget can't pay for it.
        Conflict: this process may no longer spend.
    """
    form = f"\n\nAnswer with one JSON object of this schema and nothing else:\n{json.dumps(schema.model_json_schema())}"
    failure, earlier = "", ""
    for _ in range(2):
        text = question
        if failure:
            text += f"\n\nYour last answer can't be used: {failure}\nIt was: {json.dumps(earlier[:4000])}\nAnswer anew."
        try:
            answer, earlier = await _paid(chat, schema, [SystemMessage(system), HumanMessage(text)], form)
        except ValueError as error:
            failure = _short(error)
        except Conflict:  # somebody else works on the campaign, or has declared this process lost
            raise
        except LimitReached as error:
            if error.scope in (Scope.CAMPAIGN, Scope.DAY):
                raise
            return Unusable(why=_short(error))
        except Exception as error:  # an endpoint may fail in any way its client has a name for
            return Unusable(why=f"{type(error).__name__}: {_short(error)}")
        else:
            try:
                return check(answer if answer is not None else _parse(schema, earlier))
            except (ValueError, PawlError) as error:
                failure = _short(error)
    return Unusable(why=failure)


async def _paid(
    chat: BaseChatModel, schema: type[_Answer], messages: list[BaseMessage], form: str
) -> tuple[_Answer | None, str]:
    """Ask, with the most that the call can use set aside before, and what it used settled after."""
    spending = current_spending()
    if spending is None:
        return (await _once(chat, schema, messages, form))[:2]
    sent = sum(len(str(message.text).encode()) for message in messages) + len(form.encode())
    most = Usage(input_tokens=sent + _ENVELOPE, output_tokens=getattr(chat, "max_tokens", None) or _MOST_OUTPUT)
    hold = spending.reserve(most)
    used: Usage | None = most  # where nobody can tell, the bound counts
    try:
        answer, text, told = await _once(chat, schema, messages, form)
        used = told if told is not None and _possible(told, most) else most
    except openai.APIStatusError as error:
        used = None if turned_away(error.status_code) else most
        raise
    except openai.APIConnectionError as error:
        used = most if isinstance(error, openai.APITimeoutError) else None  # never reached
        raise
    finally:
        if used is None:
            hold.release()
        else:
            hold.settle(used)
    return answer, text


async def _once(
    chat: BaseChatModel, schema: type[_Answer], messages: list[BaseMessage], form: str
) -> tuple[_Answer | None, str, Usage | None]:
    try:
        native = cast(Any, chat).with_structured_output(schema, include_raw=True)
    except NotImplementedError:
        native = None
    if native is None:
        messages = [*messages[:-1], HumanMessage(str(messages[-1].text) + form)]
        reply = await chat.ainvoke(messages)
        return None, str(reply.text), _used(reply)
    result = cast(dict[str, Any], await native.ainvoke(messages))
    parsed, raw = result.get("parsed"), result.get("raw")
    text = str(raw.text) if isinstance(raw, BaseMessage) else ""
    if isinstance(parsed, schema):
        return parsed, parsed.model_dump_json(), _used(raw)
    return None, text, _used(raw)


def _used(reply: object) -> Usage | None:
    """What the endpoint says that a call took."""
    told = reply.usage_metadata if isinstance(reply, AIMessage) else None
    if not told or min(told["input_tokens"], told["output_tokens"]) < 0:
        return None
    return Usage(input_tokens=told["input_tokens"], output_tokens=told["output_tokens"])


def _possible(told: Usage, most: Usage) -> bool:
    """Whether a call can have taken that; an endpoint that tells of less than nothing, or far too much, is wrong."""
    return 0 < told.input_tokens <= 8 * most.input_tokens and 0 <= told.output_tokens <= 8 * most.output_tokens


def _parse(schema: type[_Answer], text: str) -> _Answer:
    """The last JSON object in a text that fits the schema: models like to think aloud before they answer."""
    decoder, start = json.JSONDecoder(), text.find("{")
    found: _Answer | None = None
    problem: ValueError = ValueError("there is no JSON object in it")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
            found = schema.model_validate(value)
            start = text.find("{", end)
        except ValidationError as error:
            problem, start = error, text.find("{", start + 1)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
    if found is None:
        raise problem
    return found


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        faults = [f"{'.'.join(map(str, one['loc'])) or 'answer'}: {one['msg']}" for one in error.errors()[:4]]
        return "; ".join(faults)
    return " ".join(str(error).split())[:300] or type(error).__name__
