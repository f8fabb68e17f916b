"""What a node is (state, context, `NodeSpec`), and one file a node.

Names are loaded on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .context import Services
    from .decision import Decision, Diagnosis, Lever
    from .spec import Need, NodeRuntime, NodeSpec, Update
    from .state import ApprovalMode, CampaignRules, State

_WHERE = {
    "ApprovalMode": "state",
    "CampaignRules": "state",
    "Decision": "decision",
    "Diagnosis": "decision",
    "Lever": "decision",
    "Need": "spec",
    "NodeRuntime": "spec",
    "NodeSpec": "spec",
    "Services": "context",
    "State": "state",
    "Update": "spec",
}

__all__ = [
    "ApprovalMode",
    "CampaignRules",
    "Decision",
    "Diagnosis",
    "Lever",
    "Need",
    "NodeRuntime",
    "NodeSpec",
    "Services",
    "State",
    "Update",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
