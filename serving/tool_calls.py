"""One call of a trusted tool by a rollout: limited, kept apart from the tool's own trouble, and recorded."""

import logging

from pydantic import JsonValue

from ..core import ConfigurationError, NotFound, PawlError, ToolCall
from ..safety.telemetry.model_calls import tool_call
from .refusal import Refused
from .session import Session

_LOG = logging.getLogger(__name__)


async def call_tool(session: Session, name: str, body: JsonValue) -> JsonValue:
    """Answer a request of a rollout.

    Raises:
        Refused: there is no such tool, its arguments aren't an object, its calls are used up, or it failed.
    """
    tool = session.tools.get(name)
    if tool is None:
        raise Refused(404, f"no tool {name!r}; there are: {', '.join(sorted(session.tools)) or 'none'}")
    arguments = body.get("arguments") if isinstance(body, dict) else None
    if not isinstance(arguments, dict):
        raise Refused(400, 'expected {"arguments": {...}}')
    if session.tool_calls.get(name, 0) >= tool.limit:
        raise Refused(429, f"this rollout has used up its {tool.limit} calls of {name!r}")
    session.tool_calls[name] = session.tool_calls.get(name, 0) + 1
    with session.lockstep.tool(session.member):
        try:
            with tool_call(name, arguments, within=session.place) as call:
                result = await tool.run(arguments)
                call.answered(result.value)
        except Exception as error:
            if isinstance(error, PawlError) and not isinstance(error, ConfigurationError | NotFound):
                session.trusted_error = error
                raise Refused(500, "the tool failed") from error
            _LOG.warning("The tool %r failed.", name, exc_info=True)
            failure: dict[str, JsonValue] = {"error": f"the tool failed: {type(error).__name__}"}
            session.record(ToolCall(name=name, arguments=arguments, result=failure))
            raise Refused(500, "the tool failed") from error
    session.record(ToolCall(name=name, arguments=arguments, result=result.value, usage=result.usage))
    return {"result": result.value}
