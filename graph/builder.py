"""The graph's shape: which node follows which, and how a plug-in node is put between two of them.

    builder = build_graph()                                  # uncompiled StateGraph
    builder = build_graph(nodes=[NodeSpec(name="audit", run=audit, after="evaluator", before="feedback_agent")])
    graph = builder.compile(checkpointer=saver)

Most users let `Session` do this.
"""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START, StateGraph
from pydantic import JsonValue
from typing_extensions import TypedDict

from ..core import ConfigurationError, Usage, digest_json
from ..nodes.charging import charge_of, let_go, scopes_at, scopes_within
from ..nodes.context import Services, narrow
from ..nodes.decision import Lever
from ..nodes.house import HOUSE
from ..nodes.journal import key as idempotency_key
from ..nodes.spec import RESERVED, NodeRuntime, NodeSpec, Update
from ..nodes.state import SCHEMA_VERSION, State, Verdict
from ..safety.budget import LimitReached
from ..safety.budget.limits import quantity
from .boundary import check_boundary, check_lease
from .tracing import describe, node_span


@dataclass(frozen=True)
class Edge:
    """One way from a node to the next; the first of a node's edges whose `when` holds is taken."""

    source: str
    target: str
    label: str = ""
    when: Callable[[State], bool] | None = None


def _lever(lever: Lever) -> Callable[[State], bool]:
    return lambda state: state["decision"].lever is lever


def _verdict(*verdicts: Verdict) -> Callable[[State], bool]:
    return lambda state: (approval := state.get("approval")) is not None and approval.verdict in verdicts


def _passed(state: State) -> bool:
    races = state.get("races") or []
    return bool(races) and all(race.outcome == "passed" for race in races)


def _promoted(state: State) -> bool:
    candidate = state.get("candidate")
    return candidate is not None and state["live"] == candidate.version


def _exhausted(state: State) -> bool:
    return state.get("exhausted") is not None


def _ended(state: State) -> bool:
    return state.get("stop") is not None


WAYS: tuple[Edge, ...] = (
    Edge(START, "meta_agent"),
    Edge("meta_agent", "task_agent"),
    Edge("task_agent", "evaluator"),
    Edge("evaluator", "feedback_agent"),
    Edge("feedback_agent", "scaffold_editor", "scaffold", _lever(Lever.SCAFFOLD)),
    Edge("feedback_agent", "trainer", "weights", _lever(Lever.WEIGHTS)),
    Edge("feedback_agent", END, "stop"),
    Edge("scaffold_editor", "gauntlet"),
    Edge("trainer", "gauntlet"),
    Edge("gauntlet", "shadow", "passed", _passed),
    Edge("gauntlet", "discard", "no"),
    Edge("shadow", "discard", "budget used up", _exhausted),
    Edge("shadow", "gate", "ask"),
    Edge("gate", "promoter", "approved", _verdict(Verdict.APPROVE)),
    Edge("gate", "scaffold_editor", "edited", _verdict(Verdict.EDIT)),
    Edge("gate", "discard", "rejected"),
    Edge("promoter", "monitor", "promoted", _promoted),
    Edge("promoter", "discard", "overtaken"),
    Edge("monitor", "rollback", "worse", lambda state: bool(state.get("worse"))),
    Edge("monitor", END, "done", _ended),
    Edge("monitor", "task_agent", "next"),
    Edge("rollback", END, "done", _ended),
    Edge("rollback", "task_agent", "next"),
    Edge("discard", END, "done", _ended),
    Edge("discard", "task_agent", "next"),
)
"""The loop."""


def build_graph(nodes: Sequence[NodeSpec] = (), *, house: Sequence[NodeSpec] = HOUSE) -> StateGraph[Any, Any, Any, Any]:
    """Wire the nodes of the house and the given ones into an uncompiled graph.

    Args:
        nodes: further nodes, each put on the way from its `after` to its `before`.
        house: the nodes of the loop; give others only to test the wiring itself.

    Raises:
        ConfigurationError: a name is used twice, a key has two owners or none, a target doesn't exist,
            there is no way from `after` to `before`, or a reserved capability is asked for.
    """
    specs = [*house, *nodes]
    schema = _merge_state(specs)
    _check(specs, house, schema)
    ways = _insert(WAYS, nodes)

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(schema, context_schema=Services)
    for spec in specs:
        builder.add_node(  # pyright: ignore[reportUnknownMemberType]
            spec.name, _guard(spec), retry_policy=spec.retry, timeout=spec.timeout
        )
    for source in dict.fromkeys(edge.source for edge in ways):
        branch = [edge for edge in ways if edge.source == source]
        if len(branch) == 1 and branch[0].when is None:
            builder.add_edge(source, branch[0].target)
        else:
            targets: dict[Any, str] = {edge.label: edge.target for edge in branch}
            builder.add_conditional_edges(source, _router(branch), targets)
    return builder


def fingerprint(nodes: Sequence[NodeSpec] = (), *, house: Sequence[NodeSpec] = HOUSE) -> str:
    """Digest of what a checkpoint depends on: schema version, node names, ways, and the state's keys and types."""
    schema = _merge_state([*house, *nodes])
    content: dict[str, JsonValue] = {
        "schema_version": SCHEMA_VERSION,
        "nodes": [*sorted(spec.name for spec in [*house, *nodes])],
        "ways": [[edge.source, edge.label, edge.target] for edge in _insert(WAYS, nodes)],
        "keys": {key: str(kind) for key, kind in sorted(get_type_hints(schema).items())},
    }
    return digest_json(content)


def make_graph() -> Any:
    """Compile the graph without a saver, for a LangGraph server, which brings its own (see `langgraph.json`)."""
    from .plugins import plugin_nodes

    return build_graph(plugin_nodes()).compile()  # pyright: ignore[reportUnknownMemberType]


def _router(branch: Sequence[Edge]) -> Callable[[State], str]:
    def route(state: State) -> str:
        return next(edge.label for edge in branch if edge.when is None or edge.when(state))

    return route


def _guard(spec: NodeSpec) -> Callable[..., Any]:
    """Ask at the boundary whether to go on, narrow the context, and check what comes back."""

    async def run(state: State, runtime: NodeRuntime) -> Update:
        services = runtime.context
        if services is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise ConfigurationError(
                "The graph was run without its services. Run it by Session, or pass context=Services(...)."
            )
        charge, candidate = charge_of(state, spec.name), state.get("candidate")
        of = candidate.version if candidate is not None else ""
        before = _cpu_seconds(services)
        try:
            check_boundary(services, charge, scopes_at(spec.name))
            # What a node spends without saying so, as one from elsewhere may, is paid for all the same.
            calls = idempotency_key(state, f"{spec.name}.calls", of)
            with (
                node_span(services.telemetry, state, spec.name) as current,
                services.budget.charging(charge, calls, scopes_within(spec.name)),
            ):
                update = await spec.run(state, runtime.override(context=narrow(services, spec.name, spec.needs)))
                describe(current, update)
            check_lease(services)  # what an overtaken run came to stays out of the checkpoints
        except GraphInterrupt:  # a question to a person, or a job to wait for
            check_lease(services)
            raise
        except LimitReached as limit:
            given_up = let_go(spec.name, limit)
            if given_up is None:
                raise
            return dict(given_up)
        finally:
            _warn(services, runtime, state)
        services.meter.add(
            charge.campaign,
            idempotency_key(state, f"{spec.name}.cpu", of),
            charge.node,
            charge.round,
            Usage(cpu_seconds=_cpu_seconds(services) - before),
            lever=charge.lever,
            candidate=charge.candidate,
        )
        extra = sorted(set(update) - set(spec.writes))
        if extra:
            raise ConfigurationError(
                f"The node {spec.name!r} returned {', '.join(extra)}, which its NodeSpec does not declare. "
                f"Add them to `writes`; declared are: {', '.join(spec.writes) or 'none'}."
            )
        return dict(update)

    run.__name__ = spec.name
    return run


def _warn(services: Services, runtime: NodeRuntime, state: State) -> None:
    """Tell of every limit of which 80 % are spent: in the ledger and to whoever watches, once."""
    if services.lease is not None and services.lease.lost:
        return
    for warning in services.budget.warnings():
        services.ledger.append(
            event_id=f"{warning.campaign}/budget/{warning.account}/{warning.dimension}/{warning.limit}",
            kind="budget.warned",
            campaign=warning.campaign,
            body={
                "round": state.get("round", 0),
                "scope": warning.scope.value,
                "dimension": warning.dimension.value,
                "spent": quantity(warning.dimension, warning.settled),
                "limit": quantity(warning.dimension, warning.limit),
            },
            trace_id=state.get("trace_id", ""),
        )
        runtime.stream_writer(
            {
                "kind": "budget",
                "scope": warning.scope.value,
                "dimension": warning.dimension.value,
                "spent": quantity(warning.dimension, warning.settled),
                "limit": quantity(warning.dimension, warning.limit),
            }
        )
        services.budget.told(warning)


def _cpu_seconds(services: Services) -> float:
    """CPU time of this process and of the task's verification workers, which are not its children to wait for."""
    return time.process_time() + float(getattr(services.task, "cpu_seconds", 0.0))


def _merge_state(specs: Sequence[NodeSpec]) -> type[Any]:
    hints: dict[str, Any] = dict(get_type_hints(State, include_extras=True))
    owner = dict.fromkeys(hints, "the house")
    for spec in specs:
        if spec.state is None:
            continue
        for key, kind in get_type_hints(spec.state, include_extras=True).items():
            if key in owner:
                raise ConfigurationError(
                    f"The node {spec.name!r} declares the state key {key!r}, which {owner[key]} owns. "
                    "Give it a name of its own, for example with the package's name in front."
                )
            hints[key] = kind
            owner[key] = f"the node {spec.name!r}"
    return TypedDict("CampaignState", hints, total=False)  # pyright: ignore[reportReturnType, reportArgumentType]


def _check(specs: Sequence[NodeSpec], house: Sequence[NodeSpec], schema: type[Any]) -> None:
    seen: set[str] = set()
    keys = set(get_type_hints(schema))
    own = {spec.name for spec in house}
    for spec in specs:
        if spec.name in seen:
            raise ConfigurationError(f"Two nodes are called {spec.name!r}. Every node needs a name of its own.")
        seen.add(spec.name)
        if not inspect.iscoroutinefunction(spec.run) and not inspect.iscoroutinefunction(type(spec.run).__call__):
            raise ConfigurationError(f"The node {spec.name!r} must be `async def node(state, runtime) -> dict`.")
        unknown = sorted((set(spec.reads) | set(spec.writes)) - keys)
        if unknown:
            raise ConfigurationError(
                f"The node {spec.name!r} names the unknown state keys {', '.join(unknown)}. "
                "Declare its own keys in a TypedDict and give that as `state`."
            )
        for need in spec.needs:
            holders = RESERVED.get(need)
            if holders is not None and (spec.name not in holders or spec.name not in own):
                raise ConfigurationError(
                    f"The node {spec.name!r} asks for {need.value!r}, "
                    f"which is reserved to {', '.join(sorted(holders))}."
                )
        if spec.name not in own and not (spec.after and spec.before):
            raise ConfigurationError(
                f"The node {spec.name!r} is not wired: give `after` and `before`, for example "
                "after='evaluator', before='feedback_agent'."
            )


def _insert(ways: Sequence[Edge], nodes: Sequence[NodeSpec]) -> tuple[Edge, ...]:
    """Put each node on the way from its `after` to its `before`, behind those already put there."""
    edges = list(ways)
    known = {edge.source for edge in edges} | {edge.target for edge in edges} | {spec.name for spec in nodes}
    placed: set[str] = set()
    for spec in nodes:
        for end in (spec.after, spec.before):
            if end not in known:
                raise ConfigurationError(
                    f"The node {spec.name!r} goes between {spec.after!r} and {spec.before!r}, but there is no node "
                    f"{end!r}. There are: {', '.join(sorted(known - {START, END}))}."
                )
        way = _way(edges, spec.after, spec.before, placed)
        if way is None:
            onward = sorted(edge.target for edge in edges if edge.source == spec.after)
            raise ConfigurationError(
                f"The node {spec.name!r} goes between {spec.after!r} and {spec.before!r}, but no way leads from the "
                f"one to the other. From {spec.after!r} the graph goes to: {', '.join(onward)}."
            )
        edges[edges.index(way)] = Edge(way.source, spec.name, way.label, way.when)
        edges.append(Edge(spec.name, way.target))
        placed.add(spec.name)
    return tuple(edges)


def _way(edges: Sequence[Edge], after: str, before: str, placed: set[str]) -> Edge | None:
    """The last edge of the way from `after` to `before` that runs through nothing but placed nodes."""
    for edge in edges:
        if edge.source != after:
            continue
        if edge.target == before:
            return edge
        if edge.target in placed:
            found = _way(edges, edge.target, before, placed)
            if found is not None:
                return found
    return None


def ways(nodes: Sequence[NodeSpec] = ()) -> Mapping[str, list[str]]:
    """Where each node may lead to, for documentation and for `pawl doctor`."""
    table: dict[str, list[str]] = {}
    for edge in _insert(WAYS, nodes):
        table.setdefault(edge.source, []).append(edge.target)
    return table
