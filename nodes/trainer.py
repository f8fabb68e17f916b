"""Trainer: makes a candidate with other weights under the same scaffold.

The job outlives the node: the node starts it or attaches to it by an id that follows from what it trains on, and
parks the campaign until the job has ended.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from langgraph.types import interrupt
from pydantic import JsonValue

from ..core import ConfigurationError, Trajectory, Usage, Version, derive_seed, digest_json
from ..safety.sandbox import Limits
from ..safety.telemetry import names
from ..safety.telemetry.jobs import collect_job
from ..training.advantages import advantages
from ..training.backend import JobHandle, TrainerBackend, adapter_files
from ..training.datums import Datum, to_datums
from ..training.job import JobState, JobStatus, TrainJob
from ..training.objectives import GroupRelative, Objective, PolicyGradient, Supervised, with_loss
from .candidates import NO_CANDIDATE, propose
from .charging import charge_of
from .decision import Lever
from .journal import key, load_trajectories, record
from .rounds import past_rounds
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State


async def trainer(state: State, runtime: NodeRuntime) -> Update:
    """Turn trajectories into datums, train, and register the adapter as a candidate.

    A job that fails is a round without a candidate, on the record; the campaign goes on.
    """
    context = runtime.context
    backend = context.trainer
    if backend is None:
        raise ConfigurationError(
            "The weights lever was pulled, but this endpoint takes no adapters. "
            "Use the local model or a vLLM server started with --enable-lora, or a feedback agent that knows."
        )
    parent = context.registry.get(state["live"]).version
    operation = key(state, "trainer", state["live"])

    done = context.operations.lookup(operation)
    if done is None:
        context.operations.begin(operation, "training")
        job, datums = _prepare(state, runtime, parent)
        if datums:
            context.budget.hold(charge_of(state, "trainer"), operation, _most(job, len(datums), backend))
            handle: JobHandle = backend.submit(job, datums)
            status: JobStatus = backend.poll(handle)
            while not status.state.finished or status.state is JobState.CANCELLED:  # it was started again above
                interrupt({"kind": "parked", "job": job.id})
                status = backend.poll(handle)
            _tell(state, handle, status)
            outcome: JsonValue = _collect(state, runtime, status, len(datums))
        else:
            outcome: JsonValue = {
                "adapter": None,
                "error": "no group of rollouts differs in its rewards: nothing to learn from",
            }
        done = context.operations.finish(operation, outcome)
    result = cast(dict[str, JsonValue], done)
    if result["adapter"] is None:
        record(runtime, state, "trainer", "training.failed", {"error": result["error"]})
        return NO_CANDIDATE
    return propose(
        state,
        runtime,
        parent.model_copy(update={"adapter": str(result["adapter"])}),
        node="trainer",
        lever=Lever.WEIGHTS,
        operator=_objective(state).kind.value,
        summary=str(result["summary"]),
    )


def _tell(state: State, handle: JobHandle, status: JobStatus) -> None:
    """Put the job and what it says of itself in the campaign's trace."""
    attributes = {names.JOB_STATE: status.state.value, names.STEPS: status.step}
    failed = "" if status.state is JobState.SUCCEEDED else status.state.value
    collect_job(handle.run_dir, job=handle.id, parent=("round", state["round"]), attributes=attributes, failed=failed)


def _prepare(state: State, runtime: NodeRuntime, parent: Version) -> tuple[TrainJob, list[Datum]]:
    """The job and its datums; the job's id is the digest of both, so that the same work has the same run dir."""
    context, base = runtime.context, runtime.context.training_base
    assert base is not None
    objective = _objective(state)
    datums = _datums(_sample(state, runtime), objective.kind, context.task.metric.signed)
    training = dict(state["rules"].training)
    objective = with_loss(objective, training.pop("loss", None))
    initial = None
    if parent.adapter is not None:
        initial = Path(base.adapters) / parent.adapter
        if not initial.exists():
            context.artifacts.checkout(parent.adapter, initial)
    content: dict[str, JsonValue] = {
        "campaign": state["campaign"],
        "round": state["round"],
        "live": state["live"],
        "datums": digest_json([datum.model_dump(mode="json") for datum in datums]),
    }
    job = TrainJob.model_validate(
        {
            "id": f"{state['campaign']}-r{state['round']}-{digest_json(content)[:12]}",
            "objective": objective,
            "base_model_dir": base.model_dir,
            "base_model_name": base.model_name,
            "init_adapter": str(initial) if initial is not None else None,
            "threads": base.threads,
            "seed": derive_seed(state["seed"], "trainer", state["round"]),
            **training,
        }
    )
    return job, datums


def _objective(state: State) -> PolicyGradient | Supervised:
    return state["decision"].objective or GroupRelative()


def _most(job: TrainJob, datums: int, backend: TrainerBackend) -> Usage:
    """What a job can take: its steps, and the CPU time after which its backend ends it, where that has a limit."""
    limits: Limits | None = getattr(backend, "limits", None)
    return Usage(
        training_steps=job.most_steps(datums),
        cpu_seconds=float(limits.cpu_seconds) if limits is not None else 0.0,
    )


def _sample(state: State, runtime: NodeRuntime) -> list[Trajectory]:
    """This round's trajectories, and earlier ones that the same policy made, newest first, up to the rule's number.

    What counts is the policy, not the scaffold: a trajectory keeps the tokens, the masks and the log-probabilities
    that it was drawn with, whatever asked for them.
    """
    context = runtime.context
    policy = context.registry.get(state["live"]).version.adapter
    found = load_trajectories(context.artifacts, state["trajectories"])
    room = state["rules"].replay
    for row in reversed(past_rounds(runtime, state)):
        sources = [(row.sampled, row.trajectories)]
        if row.candidate is not None and row.races:
            sources.append((row.candidate.version, row.races[0].evidence))
        for version, digest in sources:
            if context.registry.get(version).version.adapter == policy and room > 0:
                earlier = load_trajectories(context.artifacts, digest)[:room]
                found += earlier
                room -= len(earlier)
    return found


def _datums(trajectories: Sequence[Trajectory], objective: Objective, signed: Callable[[float], float]) -> list[Datum]:
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        if trajectory.grade is not None:
            groups.setdefault(trajectory.item, []).append(trajectory)
    rewards = {
        item: [signed(each.grade.value) for each in members if each.grade is not None]
        for item, members in groups.items()
    }
    datums: list[Datum] = []
    for item, values in advantages(rewards, objective).items():
        for trajectory, advantage in zip(groups[item], values, strict=True):
            if advantage != 0.0:
                datums += to_datums(trajectory, advantage, item)
    return datums


def _collect(state: State, runtime: NodeRuntime, status: JobStatus, datums: int) -> JsonValue:
    context = runtime.context
    context.budget.settle(charge_of(state, "trainer"), key(state, "trainer", state["live"]), status.usage)
    if status.state is not JobState.SUCCEEDED or status.adapter is None:
        return {"adapter": None, "error": status.error or status.state.value}
    metrics = "\n".join(f"{name}: {value:.4g}" for name, value in sorted(status.metrics.items()))
    summary = (
        f"Trained {status.total_steps} steps on {datums} sequences, objective {_objective(state).kind}.\n{metrics}"
    )
    return {
        "adapter": context.artifacts.put_tree(adapter_files(status)),
        "summary": context.artifacts.put(summary.encode()),
    }


SPEC = NodeSpec(
    name="trainer",
    run=trainer,
    reads=("campaign", "round", "task", "seed", "live", "decision", "trajectories", "rules"),
    writes=("candidate", "approval", "races"),
    needs=(
        Need.TRAINER,
        Need.TASK,
        Need.ARTIFACTS,
        Need.REGISTRY,
        Need.OPERATIONS,
        Need.CAMPAIGNS,
        Need.BUDGET,
        Need.LEDGER,
    ),
)
