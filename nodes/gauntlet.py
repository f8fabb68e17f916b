"""Gauntlet: the three races, in order, stopping at the first that doesn't pass.

The target race is run here, on items that the optimiser sees anyway. The sealed ones are the judge's: all that
comes back of them is one outcome each, at a fixed bill.
"""

from contextlib import nullcontext

from pydantic import JsonValue

from ..core import AccountExhausted, Trajectory, Usage, derive_seed
from ..core.faults import point
from ..evals.judge_wire import RaceRequest
from ..evals.races import Outcome, Race, paired_effects, target_race
from ..evals.sealed import fixed_bill
from ..safety.budget import EventKind
from ..safety.telemetry import measure, names, span
from .charging import charge_of, charged, verified
from .grading import grade_all
from .journal import (
    counter,
    index_all,
    key,
    load_trajectories,
    progress,
    record,
    round_plan,
    save_trajectories,
    visible_items,
)
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import Candidate, RaceSummary, State, StopReason


async def gauntlet(state: State, runtime: NodeRuntime) -> Update:
    """Race the candidate against the live version."""
    candidate = state.get("candidate")
    if candidate is None:
        return {"races": []}
    with span(f"race {Race.TARGET}", _told(Race.TARGET, candidate)) as current:
        races = [await _target(state, runtime, candidate)]
        current.set(names.OUTCOME, races[0].outcome.value)
    stop = None
    for race in (Race.HOLDOUT, Race.ADVERSARIAL):
        if races[-1].outcome is Outcome.PASSED:
            try:
                races.append(await _sealed(state, runtime, candidate, race))
            except AccountExhausted:  # nothing more can be promoted: the round ends here, and with it the campaign
                races.append(RaceSummary(race=race, outcome=Outcome.INCONCLUSIVE))
                stop = StopReason.ACCOUNT
    for summary in races:
        measured = {names.TASK: state["task"], names.RACE: summary.race.value, names.OUTCOME: summary.outcome.value}
        measure(names.RACES, 1, measured)
        record(
            runtime,
            state,
            "gauntlet",
            f"race.{summary.race.value}",
            {"version": candidate.version, **summary.model_dump(mode="json")},
            candidate.version,
        )
    return {"races": races, "stop": stop}


async def _target(state: State, runtime: NodeRuntime, candidate: Candidate) -> RaceSummary:
    context = runtime.context
    operation = key(state, "gauntlet.target", candidate.version)
    version = context.registry.get(candidate.version).version
    items = visible_items(context.task, state)

    async def run() -> JsonValue:
        plan = round_plan(runtime, state)
        tell = counter(runtime, "gauntlet", "target race", len(plan))
        with charged(state, runtime, "gauntlet", operation, model=version.model) as spending:
            trajectories = await context.rollouts(version, plan, tell)
            graded = await grade_all(context.task, {item.id: item for item in items}, trajectories, verified(spending))
        digest = save_trajectories(context.artifacts, graded)
        index_all(runtime, state, "gauntlet", graded, digest)
        return digest

    digest = str(await context.operations.once(operation, "race", run))
    challenger = load_trajectories(context.artifacts, digest)
    incumbent = _live_trajectories(state, runtime)
    metric = context.task.metric
    verdict = target_race(
        paired_effects(items, challenger, incumbent, metric), derive_seed(state["seed"], "target", state["round"])
    )
    return RaceSummary(
        race=Race.TARGET,
        outcome=verdict.outcome,
        before=_mean(incumbent),
        after=_mean(challenger),
        low=verdict.low if verdict.items > 1 else None,
        high=verdict.high if verdict.items > 1 else None,
        estimated=verdict.estimated,
        evidence=digest,
    )


async def _sealed(state: State, runtime: NodeRuntime, candidate: Candidate, race: Race) -> RaceSummary:
    context = runtime.context
    challenger, incumbent = (context.registry.get(each).version for each in (candidate.version, state["live"]))
    others = {}
    if challenger.adapter != incumbent.adapter:
        live = context.live_versions()
        others = {task: live[task] for task in sorted(live) if task != state["task"]}
    progress(runtime, "gauntlet", f"{race.value} race, sealed")
    operation = key(state, f"gauntlet.{race.value}", candidate.version)
    request = RaceRequest(
        key=operation,
        campaign=state["campaign"],
        race=race,
        task=state["task"],
        candidate=challenger,
        live=incumbent,
        lever=candidate.lever.value,
        others=others,
    )
    charge = charge_of(state, "judge")
    context.budget.hold(charge, operation, fixed_bill(request, state["rules"].races))
    adapters = [each.adapter for each in (challenger, incumbent, *others.values()) if each.adapter is not None]
    kept = context.publisher.leased(*adapters) if context.publisher is not None else nullcontext()
    with span(f"race {race}", _told(race, candidate)) as current:
        try:
            async with kept:  # the judge reaches the server, and can load nothing there
                result = await context.judge.race(
                    request, on_alive=lambda: progress(runtime, "gauntlet", f"{race.value} race, sealed")
                )
        except AccountExhausted:
            context.budget.settle(charge, operation, Usage(), EventKind.BILL)
            raise
        current.set(names.OUTCOME, result.outcome.value)
        current.set(names.BITS, result.bits)
        current.set(names.BILL_TOKENS, result.bill.tokens)
        current.set(names.BILL_VERIFICATIONS, result.bill.verifications)
    point("gauntlet.judged")
    context.budget.settle(charge, operation, result.bill, EventKind.BILL)
    return RaceSummary(
        race=race, outcome=result.outcome, bits=result.bits, alpha=result.alpha, evidence=result.evidence
    )


def _told(race: Race, candidate: Candidate) -> dict[str, str]:
    """What telemetry is told of a race before it is run."""
    return {names.RACE: race.value, names.CANDIDATE: candidate.version, names.LEVER: candidate.lever.value}


def _live_trajectories(state: State, runtime: NodeRuntime) -> list[Trajectory]:
    return load_trajectories(runtime.context.artifacts, state["trajectories"])


def _mean(trajectories: list[Trajectory]) -> float:
    values = [trajectory.grade.value for trajectory in trajectories if trajectory.grade is not None]
    return sum(values) / len(values) if values else 0.0


SPEC = NodeSpec(
    name="gauntlet",
    run=gauntlet,
    reads=("campaign", "round", "task", "seed", "live", "candidate", "trajectories", "rules"),
    writes=("races", "stop"),
    needs=(
        Need.JUDGE,
        Need.LIVE_VERSIONS,
        Need.TASK,
        Need.ARTIFACTS,
        Need.REGISTRY,
        Need.ROLLOUTS,
        Need.PUBLISHER,
        Need.OPERATIONS,
        Need.CAMPAIGNS,
        Need.TRAJECTORIES,
        Need.BUDGET,
        Need.LEDGER,
    ),
)
