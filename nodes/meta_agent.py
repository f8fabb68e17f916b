"""Meta-agent: finds the version a campaign starts from, and writes the first scaffold where there is none."""

from ..core import Sampling, Version
from ..core.faults import point
from .journal import key, record
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State

CAPABLE = Sampling(max_tokens=8_192)
"""How a model that writes text and code is sampled: a whole module fits into one answer."""


async def meta_agent(state: State, runtime: NodeRuntime) -> Update:
    """Start from the task's live version; without one, make its seed scaffold over the base model live."""
    context = runtime.context
    files = context.task.seed_scaffold(context.capable)
    sampling = CAPABLE if context.capable else Sampling()
    version = Version(scaffold=context.artifacts.put_tree(files), base_model=context.base_model, sampling=sampling)
    context.registry.add(version, task=state["task"], parent=None, lever=None, campaign=state["campaign"], round=0)
    point("meta_agent.registered")
    live = context.bootstrap(state["task"], version.id, key(state, "meta_agent", version.id))
    record(
        runtime,
        state,
        "meta_agent",
        "campaign.started",
        {"task": state["task"], "seed": state["seed"], "live": live},
    )
    return {"live": live, "round": 1, "pulled": [], "stop": None, "note": ""}


SPEC = NodeSpec(
    name="meta_agent",
    run=meta_agent,
    reads=("campaign", "task", "seed"),
    writes=("live", "round", "pulled", "stop", "note"),
    needs=(Need.TASK, Need.ARTIFACTS, Need.REGISTRY, Need.BOOTSTRAP, Need.LEDGER),
)
