"""The LangGraph state machine: builder, session facade, worker, checkpointers.

Names are loaded on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .builder import build_graph, fingerprint, make_graph
    from .session import Session
    from .views import CampaignStatus, Checkpoint, Request
    from .worker import work

__all__ = [
    "CampaignStatus",
    "Checkpoint",
    "Request",
    "Session",
    "build_graph",
    "fingerprint",
    "make_graph",
    "work",
]

_HOME = {
    "build_graph": "builder",
    "fingerprint": "builder",
    "make_graph": "builder",
    "CampaignStatus": "views",
    "Checkpoint": "views",
    "Request": "views",
    "Session": "session",
    "work": "worker",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
