"""Trusted tools that a sandboxed scaffold may call through its socket."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import JsonValue

from ..core import Usage


@dataclass(frozen=True)
class ToolResult:
    """What a tool answers, and what the call cost."""

    value: JsonValue
    usage: Usage = Usage()


@dataclass(frozen=True)
class Tool:
    """A function of the trusted side, offered by name; arguments and result are JSON."""

    name: str
    run: Callable[[dict[str, JsonValue]], Awaitable[ToolResult]]
    limit: int = 32
    """Calls that one rollout may make."""
