"""What the loop itself costs: a round of Pawl against the same nodes in bare LangGraph, and what 200 rounds store.

The layers below the nodes do nothing, so that what is measured is the facade, the guards and the wiring; saver and
durability are the same on both sides. A last row runs real layers, to show what a durable round costs.

    python bench/loop.py [--rounds 200] [--no-real]
"""

import argparse
import asyncio
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from langgraph.graph import StateGraph
from rich.console import Console
from rich.table import Table

from pawl.core import ArtifactStore, Grade, Home, RolloutStop, Trajectory, Usage, Version, digest_bytes, digest_json
from pawl.evals.judge_wire import Commitment, CommitRequest, Reveal
from pawl.evals.races import Outcome, RaceRules
from pawl.evals.task import Direction, Item, Metric
from pawl.graph import Session
from pawl.graph.builder import WAYS, _router, fingerprint
from pawl.graph.checkpoints import open_saver
from pawl.nodes.context import Services
from pawl.nodes.decision import Decision, Diagnosis, Lever, Operator
from pawl.nodes.editor import Edit
from pawl.nodes.evidence import BudgetLeft
from pawl.nodes.house import HOUSE
from pawl.nodes.state import SCHEMA_VERSION, ApprovalMode, CampaignRules, State

RULES = {"items": 1, "attempts": 1, "shadow_items": 1, "monitor_items": 1, "approve": ApprovalMode.AUTO}
GOALS = {"ratio": 1.5, "growth": 1.05}


class NullTask:
    """One item, one grade."""

    name = "null"
    metric = Metric(name="x", unit="1", direction=Direction.MAXIMISE, worst=0.0, best=1.0, margin=0.1)

    def items(self, split: Any, seed: int, count: int, start: int = 0) -> list[Item]:
        return [Item(id="i", task="null", split=split, slice="all", payload={})] * count

    def seed_scaffold(self, capable: bool) -> dict[str, bytes]:
        return {"agent.py": b""}

    async def grade(self, item: Item, output: str | None) -> Grade:
        return Grade(value=0.5 if output == "0" else 0.6, valid=True)


class NullStore(ArtifactStore):
    """Artefacts in memory."""

    def __init__(self) -> None:
        super().__init__(Path())
        self._bytes: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        digest = digest_bytes(data)
        self._bytes[digest] = data
        return digest

    def get(self, digest: str) -> bytes:
        return self._bytes[digest]


def null_services() -> Any:
    """Layers that answer at once and keep nothing."""
    versions: dict[str, Version] = {}
    channel = SimpleNamespace(version="", epoch=0)

    def add(version: Version, **_: object) -> str:
        versions[version.id] = version
        return version.id

    async def rollouts(version: Version, plan: Any, on_done: Any = None) -> list[Trajectory]:
        first = len(versions) < 2 or version is next(iter(versions.values()))
        return [
            Trajectory(
                version=version.id, item=item.id, seed=seed, output="0" if first else "1", stop=RolloutStop.ANSWERED
            )
            for item, seed in plan
        ]

    async def once(key: str, kind: str, effect: Any) -> Any:
        return await effect()

    async def decide(evidence: Any) -> Decision:
        return Decision(lever=Lever.SCAFFOLD, diagnosis=Diagnosis.SPREAD, reason="always")

    async def edit(scaffold: Any, decision: Any, evidence: Any, seed: int) -> Edit:
        return Edit(files={"n": str(seed)}, operator=Operator.PROMPT, summary="another")

    async def race(request: Any, on_alive: Any = None) -> Any:
        return SimpleNamespace(outcome=Outcome.PASSED, bits=0.0, alpha=0.0, evidence="", bill=Usage())

    def move(task: str, which: Any, to: str, **_: object) -> Any:
        channel.version, channel.epoch = to, channel.epoch + 1
        return channel

    async def commit(campaign: str, task: str, seed: int, rules: RaceRules) -> Commitment:
        bound = CommitRequest(campaign=campaign, task=task, seed=seed, rules=rules).model_dump(mode="json")
        return Commitment(campaign=campaign, task=task, digest=digest_json({**bound, "secret": ""}), rules=rules)

    async def reveal(campaign: str) -> Reveal:
        commitment = await commit(campaign, "null", 0, CampaignRules().races)
        return Reveal(campaign=campaign, task="null", seed=0, secret="", commitment=commitment, races=[])

    def nothing(*_: object, **__: object) -> None:
        return None

    return Services(
        artifacts=NullStore(),
        registry=SimpleNamespace(
            add=add, get=lambda version_id, task=None: SimpleNamespace(version=versions[version_id]), verify=nothing
        ),
        channels=SimpleNamespace(get=lambda task, which: channel, move=move),
        ledger=SimpleNamespace(append=nothing),
        operations=SimpleNamespace(once=once),
        campaigns=SimpleNamespace(rounds=lambda campaign: {}, record_round=nothing),
        trajectories=SimpleNamespace(add=nothing),
        meter=SimpleNamespace(add=nothing, reveal=nothing, by_round=lambda campaign: {}),
        kill_switch=SimpleNamespace(check=nothing),
        budget=SimpleNamespace(
            check=nothing,
            left=BudgetLeft,
            warnings=list,
            hold=nothing,
            settle=nothing,
            charging=lambda *_: nullcontext(SimpleNamespace(took=nothing)),
        ),
        task=NullTask(),
        rollouts=rollouts,
        bootstrap=lambda task, version, key: setattr(channel, "version", version) or version,
        feedback=SimpleNamespace(decide=decide),
        editor=SimpleNamespace(edit=edit),
        judge=SimpleNamespace(race=race, commit=commit, reveal=reveal),
        live_versions=lambda: {"null": versions[channel.version]},
        trainer=None,
        training_base=None,
        publisher=None,
        base_model="null",
        capable=False,
    )


class NullFactory:
    """Opens the null services."""

    def check_task(self, task: str) -> None:
        """Accept any."""

    @asynccontextmanager
    async def open(self, home: Home, settings: Any, store: Any, campaign: Any) -> AsyncGenerator[Any]:
        """Yield layers that do nothing."""
        yield null_services()


async def pawl_seconds(folder: Path, rounds: int) -> float:
    async with Session(folder, factory=NullFactory(), plugins=False) as session:
        name = session.create("null", rules=CampaignRules(rounds=rounds, **RULES))
        start = time.perf_counter()
        await session.resume(name)
        return time.perf_counter() - start


async def bare_seconds(folder: Path, rounds: int) -> float:
    home = Home(folder).create()
    builder: Any = StateGraph(State, context_schema=SimpleNamespace)
    for spec in HOUSE:
        builder.add_node(spec.name, spec.run)
    for source in dict.fromkeys(edge.source for edge in WAYS):
        branch = [edge for edge in WAYS if edge.source == source]
        if len(branch) == 1:
            builder.add_edge(source, branch[0].target)
        else:
            builder.add_conditional_edges(source, _router(branch), {edge.label: edge.target for edge in branch})
    state = State(
        schema_version=SCHEMA_VERSION,
        fingerprint=fingerprint(),
        campaign="null-1",
        task="null",
        seed=0,
        trace_id="",
        rules=CampaignRules(rounds=rounds, **RULES),
        round=0,
    )
    async with open_saver(home, None) as saver:
        graph = builder.compile(checkpointer=saver)
        start = time.perf_counter()
        stream = graph.astream(
            state,
            {"configurable": {"thread_id": "null-1"}, "recursion_limit": 10_000},
            context=null_services(),
            stream_mode=["tasks", "custom"],
            version="v2",
            durability="sync",
        )
        async for _ in stream:
            pass
        return time.perf_counter() - start


def checkpoint_bytes(folder: Path, rounds: int) -> list[float]:
    """Bytes of checkpoints and writes that each round added, in order."""
    with sqlite3.connect(Home(folder).checkpoints) as connection:
        sizes = [
            row[0]
            for row in connection.execute(
                "SELECT length(c.checkpoint) + length(c.metadata) + coalesce((SELECT sum(length(w.value)) "
                "FROM writes w WHERE w.thread_id = c.thread_id AND w.checkpoint_id = c.checkpoint_id), 0) "
                "FROM checkpoints c ORDER BY c.checkpoint_id"
            )
        ]
    steps = len(sizes) // rounds
    return [sum(sizes[start : start + steps]) for start in range(len(sizes) - steps * rounds, len(sizes), steps)]


async def real_row(folder: Path) -> dict[str, float]:
    """Seconds of a round on the labels task with the local model, judge, sandbox and databases."""
    async with Session(folder, plugins=False) as session:
        name = session.create("labels", rules=CampaignRules(rounds=2, approve=ApprovalMode.AUTO))
        start = time.perf_counter()
        await session.resume(name)
        seconds = time.perf_counter() - start
        from pawl.serving.local import stop_local_server

        stop_local_server(session.home)
        rounds = len(session.status(name).rounds) or 1
        return {"real_round_s": seconds / rounds}


def main() -> None:
    """Measure, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-real", action="store_true", help="leave out the row with real layers")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        short = 20
        pairs = []
        for repeat in range(given.repeats + 1):
            bare = asyncio.run(bare_seconds(root / f"bare{repeat}", short))
            ours = asyncio.run(pawl_seconds(root / f"pawl{repeat}", short))
            if repeat:  # the first pair warms up imports and files
                pairs.append((bare / short, ours / short))
        asyncio.run(pawl_seconds(root / "long", given.rounds))
        sizes = checkpoint_bytes(root / "long", given.rounds)
        real = {} if given.no_real else asyncio.run(real_row(root / "real"))
    tenth = max(1, len(sizes) // 10)
    figures: dict[str, float] = {
        "bare_round_s": statistics.median(bare for bare, _ in pairs),
        "pawl_round_s": statistics.median(ours for _, ours in pairs),
        "ratio": statistics.median(ours / bare for bare, ours in pairs),
        "rounds": len(sizes),
        "first_bytes": statistics.mean(sizes[1 : 1 + tenth]),
        "last_bytes": statistics.mean(sizes[-tenth:]),
        **real,
    }
    figures["growth"] = figures["last_bytes"] / figures["first_bytes"]
    table = Table("what", "figure", "goal", title="The loop, with layers that do nothing")
    table.add_row("a round in bare LangGraph", f"{figures['bare_round_s'] * 1e3:.1f} ms", "")
    table.add_row("a round in Pawl", f"{figures['pawl_round_s'] * 1e3:.1f} ms", "")
    table.add_row("ratio, median of pairs", f"{figures['ratio']:.2f}", f"<= {GOALS['ratio']}")
    table.add_row("checkpoint bytes a round, first tenth", f"{figures['first_bytes']:,.0f}", "")
    table.add_row(f"the same, last tenth of {len(sizes)} rounds", f"{figures['last_bytes']:,.0f}", "")
    table.add_row("growth", f"{figures['growth']:.3f}", f"<= {GOALS['growth']}")
    if real:
        table.add_row("a round of labels with real layers", f"{figures['real_round_s']:.1f} s", "")
    Console().print(table)
    holds = all(figures[name] <= goal for name, goal in GOALS.items())
    print(json.dumps({"bench": "loop", "figures": figures, "goals": GOALS, "holds": holds}))


if __name__ == "__main__":
    main()
