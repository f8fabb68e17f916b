"""Trainer: makes a candidate with other weights under the same scaffold.

The job outlives the node: the node starts it or attaches to it by an id that follows from what it trains on, and
parks the campaign until the job has ended.
"""

from pathlib import Path
from typing import cast

from langgraph.types import interrupt
from pydantic import JsonValue

from ..core import ConfigurationError, Usage, Version, derive_seed, digest_json
from ..release.ledger import EventKind
from ..safety.sandbox import Limits
from ..safety.telemetry import names
from ..safety.telemetry.jobs import collect_job
from ..training.backend import JobHandle, TrainerBackend, adapter_files
from ..training.critic_files import critic_base, critic_files
from ..training.dataset import Dataset, make_dataset
from ..training.job import JobState, JobStatus, TrainJob
from ..training.objectives import PPO, Anchor, GroupRelative, PolicyGradient, Supervised, with_loss
from .candidates import NO_CANDIDATE, propose
from .charging import charge_of
from .context import TrainingBase
from .decision import Lever
from .journal import key, record
from .spec import Need, NodeRuntime, NodeSpec, Update
from .state import State
from .training_sample import last_critic, sample


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
        job, dataset = _prepare(state, runtime, parent)
        datums = dataset.datums
        record(runtime, state, "trainer", EventKind.TRAINING_PREPARED, dataset.counts)
        if datums:
            if context.parity is not None:
                await context.parity()
            context.budget.hold(charge_of(state, "trainer"), operation, _most(job, len(datums), backend))
            handle: JobHandle = backend.submit(job, datums)
            status: JobStatus = backend.poll(handle)
            while not status.state.finished or status.state is JobState.CANCELLED:  # it was started again above
                interrupt({"kind": "parked", "job": job.id})
                status = backend.poll(handle)
            _tell(state, handle, status)
            outcome: JsonValue = _collect(state, runtime, status, dataset)
        else:
            outcome: JsonValue = {
                "adapter": None,
                "error": f"nothing to learn from: {dataset.summary}",
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


def _prepare(state: State, runtime: NodeRuntime, parent: Version) -> tuple[TrainJob, Dataset]:
    """The job and its datums; its id follows from the datums and the weights, so the same work has the same run dir."""
    context, base = runtime.context, runtime.context.training_base
    assert base is not None
    objective = _objective(state)
    rules, found = state["rules"], sample(state, runtime)
    dataset = make_dataset(
        found.trajectories, objective, context.task.metric.signed, ages=found.ages, staleness=rules.staleness
    )
    training = dict(rules.training)
    if any(datum.policy_version in found.older for datum in dataset.datums):
        objective = with_loss(objective, {"anchor": Anchor.START})
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
        "base": base.digest,
        "datums": digest_json([datum.model_dump(mode="json") for datum in dataset.datums]),
    }
    job = TrainJob.model_validate(
        {
            "id": f"{state['campaign']}-r{state['round']}-{digest_json(content)[:12]}",
            "objective": objective,
            "base_model_dir": base.model_dir,
            "base_model_name": base.model_name,
            "base_digest": base.digest,
            "init_adapter": str(initial) if initial is not None else None,
            "init_critic": _critic(state, runtime, base) if isinstance(objective, PPO) else None,
            "threads": base.threads,
            "seed": derive_seed(state["seed"], "trainer", state["round"]),
            **training,
        }
    )
    return job, dataset


def _objective(state: State) -> PolicyGradient | Supervised:
    return state["decision"].objective or GroupRelative()


def _most(job: TrainJob, datums: int, backend: TrainerBackend) -> Usage:
    """What a job can take: its steps, and the CPU time after which its backend ends it, where that has a limit."""
    limits: Limits | None = getattr(backend, "limits", None)
    return Usage(
        training_steps=job.most_steps(datums),
        cpu_seconds=float(limits.cpu_seconds) if limits is not None else 0.0,
    )


def _critic(state: State, runtime: NodeRuntime, base: TrainingBase) -> str | None:
    """Folder of the value head to go on from; none where the last one is of other weights."""
    digest = last_critic(state, runtime)
    if digest is None or critic_base(runtime.context.artifacts.get_tree(digest)) != base.digest:
        return None
    folder = Path(base.adapters).with_name("critics") / digest
    runtime.context.artifacts.checkout(digest, folder)  # even if it is there: a death may have cut it short
    return str(folder)


def _collect(state: State, runtime: NodeRuntime, status: JobStatus, dataset: Dataset) -> JsonValue:
    context = runtime.context
    context.budget.settle(charge_of(state, "trainer"), key(state, "trainer", state["live"]), status.usage)
    if status.state is not JobState.SUCCEEDED or status.adapter is None:
        return {"adapter": None, "error": status.error or status.state.value}
    valued = isinstance(_objective(state), PPO)
    metrics = "\n".join(f"{name}: {value:.4g}" for name, value in sorted(status.metrics.items()))
    summary = (
        f"Trained {status.total_steps} steps on {len(dataset.datums)} sequences, objective {_objective(state).kind}.\n"
        f"{dataset.summary}.\n{metrics}"
    )
    return {
        "adapter": context.artifacts.put_tree(adapter_files(status)),
        "summary": context.artifacts.put(summary.encode()),
        **({"critic": context.artifacts.put_tree(critic_files(status.adapter.parent))} if valued else {}),
    }


SPEC = NodeSpec(
    name="trainer",
    run=trainer,
    reads=("campaign", "round", "task", "seed", "live", "decision", "trajectories", "rules"),
    writes=("candidate", "approval", "races"),
    needs=(
        Need.TRAINER,
        Need.PARITY,
        Need.TASK,
        Need.ARTIFACTS,
        Need.REGISTRY,
        Need.OPERATIONS,
        Need.CAMPAIGNS,
        Need.BUDGET,
        Need.LEDGER,
    ),
)
