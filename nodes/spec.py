"""What a node is: an async function of state and runtime, and a frozen `NodeSpec` that says where it goes.

    async def count_tokens(state: State, runtime: NodeRuntime) -> Update:
        return {"acme_tokens": 42}

    NodeSpec(name="acme_tokens", run=count_tokens, after="evaluator", before="feedback_agent",
             state=AcmeState, reads=("evaluation",), writes=("acme_tokens",))

A node reads the state, calls a layer below, and returns the keys that changed. It may run again after a crash,
so whatever it does to the world outside the state goes through `context.operations` or has a key of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy

from .context import Services
from .state import State

Update = Mapping[str, object]
"""The keys of the state that a node changed."""

NodeRuntime = Runtime[Services]
"""LangGraph's runtime; `runtime.context` holds only what the node's spec declares in `needs`."""


class Need(StrEnum):
    """A capability that a node may ask for; the names are those of the fields of `Services`."""

    ARTIFACTS = "artifacts"
    REGISTRY = "registry"
    LEDGER = "ledger"
    OPERATIONS = "operations"
    CAMPAIGNS = "campaigns"
    TRAJECTORIES = "trajectories"
    """The index of attempts at visible items."""
    BUDGET = "budget"
    METER = "meter"
    TASK = "task"
    ROLLOUTS = "rollouts"
    """Run a version on items that the optimiser may see."""
    FEEDBACK = "feedback"
    EDITOR = "editor"
    TRAINER = "trainer"
    PUBLISHER = "publisher"
    """Load adapters into the model server, and keep them there."""
    PARITY = "parity"
    """Make sure that trainer and server mean the same."""
    BOOTSTRAP = "bootstrap"
    """Make a first version live where a task has none."""
    LIVE_VERSIONS = "live_versions"
    JUDGE = "judge"
    CHANNELS = "channels"


RESERVED: Mapping[Need, frozenset[str]] = {
    Need.JUDGE: frozenset({"gauntlet"}),
    Need.CHANNELS: frozenset({"promoter", "rollback"}),
    Need.BOOTSTRAP: frozenset({"meta_agent"}),
}
"""Capabilities that only these nodes may hold, whoever asks."""


class Node(Protocol):
    """The function behind a node; its first parameter must be called ``state``."""

    async def __call__(self, state: State, runtime: NodeRuntime) -> Update:
        """Return the keys that changed."""
        ...


@dataclass(frozen=True)
class NodeSpec:
    """Where a node goes, what it touches, and how often it is tried."""

    name: str
    run: Node
    after: str = ""
    """Node whose way to `before` it is put on; empty for the nodes of the house."""
    before: str = ""
    reads: tuple[str, ...] = ()
    """Keys that it reads; checked against the merged state when the graph is built."""
    writes: tuple[str, ...] = ()
    """Keys that it may return; anything else is refused when it returns."""
    needs: tuple[Need, ...] = ()
    state: type[Any] | None = None
    """A TypedDict of the keys that this node owns."""
    retry: RetryPolicy | None = None
    timeout: float | None = None
    """Seconds of one attempt."""
