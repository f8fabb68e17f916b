"""What runs: model endpoints, the local server behind one, clients, and a version on an item.

Names are loaded on first use, so that importing the package costs nothing and never needs torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .policy import Endpoint
from .tools import Tool, ToolResult

if TYPE_CHECKING:
    from .adapters import AdapterPublisher, check_endpoint, serving_models
    from .candidates import CandidateLimits, CandidateMeter
    from .chat import PolicyChat, openai_client, policy_chat
    from .connect import connect
    from .local import ensure_local_server, stop_local_server
    from .proxy import PolicyProxy
    from .runner import Rollout, RolloutLimits, run_rollouts
    from .session import CallLimits
    from .weights import BaseModelFiles, base_model

__all__ = [
    "AdapterPublisher",
    "BaseModelFiles",
    "CallLimits",
    "CandidateLimits",
    "CandidateMeter",
    "Endpoint",
    "PolicyChat",
    "PolicyProxy",
    "Rollout",
    "RolloutLimits",
    "Tool",
    "ToolResult",
    "base_model",
    "check_endpoint",
    "connect",
    "ensure_local_server",
    "openai_client",
    "policy_chat",
    "run_rollouts",
    "serving_models",
    "stop_local_server",
]

_HOME = {
    "AdapterPublisher": "adapters",
    "check_endpoint": "adapters",
    "serving_models": "adapters",
    "PolicyChat": "chat",
    "openai_client": "chat",
    "policy_chat": "chat",
    "connect": "connect",
    "ensure_local_server": "local",
    "stop_local_server": "local",
    "PolicyProxy": "proxy",
    "Rollout": "runner",
    "RolloutLimits": "runner",
    "run_rollouts": "runner",
    "BaseModelFiles": "weights",
    "CallLimits": "session",
    "CandidateLimits": "candidates",
    "CandidateMeter": "candidates",
    "base_model": "weights",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
