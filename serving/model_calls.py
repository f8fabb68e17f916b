"""One model call of a rollout: admitted under its limits, paid for, sent in step with its batch, and recorded."""

from typing import Any

from pydantic import JsonValue

from ..core import BudgetExhausted, PawlError, Usage, derive_seed
from ..safety.budget.calls import Hold
from ..safety.telemetry.model_calls import model_call
from ..safety.telemetry.names import Operation
from .forwarding import ModelServer, NotServed, Rejected, Unusable
from .recording import Asked, Kind, at_most, forwarded, recorded
from .refusal import Refused
from .session import MODEL_FAILED, Session

_OPERATIONS = {Kind.CHAT: Operation.CHAT, Kind.COMPLETION: Operation.TEXT_COMPLETION}


async def call_model(session: Session, server: ModelServer, kind: Kind, asked: Asked) -> JsonValue:
    """Answer a request of a rollout.

    What it can use at most is reserved before anything is sent; what it used is settled after. Where nobody can tell
    what it used, the bound counts as used.

    Raises:
        Refused: it is over a limit, there is no money for it, the endpoint finds fault with it, or the endpoint failed.
        Ended: the rollout is over.
    """
    room = session.limits.tokens - session.usage.tokens
    if session.calls >= session.limits.calls or room <= 0:
        limits = f"{session.limits.calls} calls and {session.limits.tokens} tokens"
        raise Refused(429, f"this rollout has used up its {limits}; answer with what there is")
    body = forwarded(kind, asked, session.version, derive_seed(session.seed, "call", session.calls), room)
    _cut_short(session, kind, body)
    together = session.candidate.room(at_most(kind, body).input_tokens)
    if together is not None:
        body["max_tokens"] = min(body["max_tokens"], together)
    most = at_most(kind, body)
    holds = [_reserve(session, most), session.candidate.reserve(most)]
    session.calls += 1
    try:
        turn = await session.lockstep.turn(session.member)
    except BaseException:
        _end(holds, None)
        raise
    used: Usage | None = most
    try:
        with model_call(_OPERATIONS[kind], body, server.name, within=session.place) as call:
            reply = await server.ask(kind, body, turn)
            step = recorded(kind, asked, body, reply)
            call.answered(reply)
        used = step.usage
    except Rejected as error:  # the scaffold's own doing: it may ask for less, and the rollout goes on
        used = None
        raise Refused(error.status, f"the model server refuses this request: {error}") from error
    except NotServed as error:
        used = None
        raise _failed(session, str(error)) from error
    except Unusable as error:
        raise _failed(session, str(error)) from error
    except ValueError as error:
        raise _failed(session, server.unusable(error)) from error
    finally:
        _end(holds, used)
        session.lockstep.back(session.member)
    session.record(step)
    return reply


def _cut_short(session: Session, kind: Kind, body: dict[str, Any]) -> None:
    """Bound the answer by what the rollout's calls may use together."""
    most, used = session.limits.most, session.usage
    if most is None:
        return
    prompt, answer = most.input_tokens - used.input_tokens, most.output_tokens - used.output_tokens
    if at_most(kind, body).input_tokens > prompt or answer <= 0:
        raise Refused(
            429,
            f"this rollout may use {most.input_tokens} input and {most.output_tokens} output tokens, of which "
            f"{max(0, prompt)} and {max(0, answer)} are left: too few for this call; answer with what there is",
        )
    body["max_tokens"] = min(body["max_tokens"], answer)


class _Free:
    """The hold of a call that nothing pays for."""

    def settle(self, usage: Usage) -> None:
        pass

    def release(self) -> None:
        pass


def _end(holds: list[Hold], used: Usage | None) -> None:
    for hold in holds:
        if used is None:
            hold.release()
        else:
            hold.settle(used)


def _reserve(session: Session, most: Usage) -> Hold:
    if session.spending is None:
        return _Free()
    try:
        return session.spending.reserve(most)
    except BudgetExhausted as error:
        session.trusted_error = error
        raise Refused(429, "the budget that pays for this rollout is used up") from error
    except PawlError as error:
        session.trusted_error = error
        raise Refused(500, "the model can't be paid for") from error


def _failed(session: Session, words: str) -> Refused:
    session.model_error = words
    return Refused(502, MODEL_FAILED)
