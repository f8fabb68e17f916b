# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The loop: from a run dir to an adapter, a minibatch a step, resumable after every checkpoint."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from pydantic import JsonValue
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core import ConfigurationError, Usage, canonical_json, derive_seed
from ..safety.telemetry.jobs import SPANS, JobSpan, JobSpans
from .adapter import save_adapter
from .datums import Datum
from .job import JobState, JobStatus, TrainJob
from .learner import Learner, Trunk
from .loss import policy_loss
from .objectives import loss_of
from .rundir import Progress, RunDir, publish
from .trees import Pack, pack

BETAS = (0.9, 0.95)
EPSILON = 1e-8


def train(run: RunDir, spans: JobSpans | None = None) -> JobStatus:
    """Train the run dir's job to its end, from its last complete checkpoint, and return the final status.

    The caller holds the run dir's lock. The same job and datums give the same adapter bytes on the same machine,
    however often the process is killed on the way.

    Args:
        run: the run dir.
        spans: takes the times of its parts, for the campaign's trace.

    Raises:
        ConfigurationError: the job or its datums can't be used, or its run dir belongs to others.
        NotFound: there is no job.
    """
    spans = spans or JobSpans(run.path / SPANS, {})
    job = run.job()
    datums = run.datums()
    check(job, datums)
    data_digest = run.data_digest()
    checkpoint = run.last_checkpoint()
    if checkpoint is not None:
        _check_same(checkpoint[1], job, data_digest)
    with spans.span(JobSpan.LOAD):
        learner = Learner(job)
    _check_tokens(datums, learner.vocabulary)
    batches = minibatches(job, datums)
    total = job.epochs * len(batches)
    optimiser = torch.optim.AdamW(
        list(learner.masters.values()), lr=job.learning_rate, betas=BETAS, eps=EPSILON, weight_decay=0.0
    )
    done, before = 0, 0.0
    if checkpoint is not None:
        folder, progress = checkpoint
        learner.load(folder / "adapter")
        _load_optimiser(folder, learner, optimiser)
        done, before = progress.step, progress.cpu_seconds
    run.truncate_metrics(done)

    def status(state: JobState, step: int, metrics: dict[str, float], adapter: Path | None = None) -> JobStatus:
        usage = Usage(training_steps=step, cpu_seconds=round(before + time.process_time(), 3))
        result = JobStatus(state=state, step=step, total_steps=total, metrics=metrics, adapter=adapter, usage=usage)
        run.write_status(result)
        return result

    metrics: dict[str, float] = {}
    status(JobState.RUNNING, done, metrics)
    for step in range(done, total):
        if run.cancel_request.exists():
            return status(JobState.CANCELLED, step, metrics)
        with spans.span(JobSpan.STEP, step=step):
            metrics = _step(learner, optimiser, job, batches[batch_at(job, len(batches), step)])
        run.append_metrics(step, metrics)
        if (step + 1) % job.checkpoint_every == 0 or step + 1 == total:
            progress = Progress(
                step=step + 1,
                consumed=_consumed(job, batches, step + 1),
                seed=job.seed,
                job_digest=job.digest,
                data_digest=data_digest,
                base_digest=job.base_digest,
                cpu_seconds=round(before + time.process_time(), 3),
            )
            with spans.span(JobSpan.CHECKPOINT, step=step + 1), run.new_checkpoint(progress) as folder:
                save_adapter(folder / "adapter", learner.spec, learner.state())
                _save_optimiser(folder, learner, optimiser)
        status(JobState.RUNNING, step + 1, metrics)
    temporary = run.path / ".tmp-adapter"
    for leftover in (temporary, run.adapter):
        shutil.rmtree(leftover, ignore_errors=True)
    save_adapter(temporary, learner.spec, learner.state())
    publish(temporary, run.adapter)
    return status(JobState.SUCCEEDED, total, metrics, run.adapter)


@dataclass
class Minibatch:
    """The datums of one optimiser step, packed; the trunks are filled in at the first use."""

    packs: list[Pack]
    datums: int
    trunks: list[Trunk]
    bases: list[Tensor]

    @property
    def weight(self) -> float:
        """Sum of the decisions' weights: what the step's loss is divided by."""
        return sum(decision.weight for pack in self.packs for decision in pack.decisions)


def minibatches(job: TrainJob, datums: Sequence[Datum]) -> list[Minibatch]:
    """Split datums into steps: groups in a drawn order, whole where they fit, so that prefixes are shared."""
    groups: dict[str, list[Datum]] = {}
    for datum in datums:
        if loss_of(job.objective).kl == 0 and not any(datum.advantages):
            continue  # it would cost a pass and give no gradient
        groups.setdefault(datum.group_id, []).append(datum)
    names = sorted(groups)
    draw = Random(derive_seed(job.seed, "groups"))
    draw.shuffle(names)
    ordered: list[Datum] = []
    for name in names:
        draw.shuffle(groups[name])
        ordered += groups[name]
    parts = [ordered[start : start + job.minibatch] for start in range(0, len(ordered), job.minibatch)]
    return [Minibatch(pack(part, job.pack_tokens), len(part), [], []) for part in parts]


def batch_at(job: TrainJob, count: int, step: int) -> int:
    """Which of `count` minibatches a step uses; every epoch has its own order."""
    epoch, place = divmod(step, count)
    order = list(range(count))
    Random(derive_seed(job.seed, "epoch", epoch)).shuffle(order)
    return order[place]


def check(job: TrainJob, datums: Sequence[Datum]) -> None:
    """Refuse what can't be learned from.

    Raises:
        ConfigurationError: no datums, none that says anything, or a base model that isn't there.
    """
    if not datums:
        raise ConfigurationError("No datums: expected at least one. Every rollout was refused, or none was written.")
    if not any(value * datum.weight for datum in datums for value in datum.advantages):
        raise ConfigurationError(
            f"All advantages of the {len(datums)} datums are 0: nothing to learn. "
            "Every group's rewards are equal, or within the resolution of each other; get rollouts that differ."
        )
    if not (job.base_model_dir / "config.json").is_file():
        raise ConfigurationError(f"No base model in {job.base_model_dir}: expected a folder with config.json.")


def _check_tokens(datums: Sequence[Datum], vocabulary: int) -> None:
    for datum in datums:
        largest = max(max(datum.tokens), max((max(ids) for ids in datum.allowed if ids), default=0))
        if largest >= vocabulary or min(datum.tokens) < 0:
            raise ConfigurationError(
                f"A datum of group {datum.group_id!r} has token id {largest}, the base model {vocabulary} tokens. "
                "The rollouts were sampled from another model."
            )


def _check_same(progress: Progress, job: TrainJob, data_digest: str) -> None:
    for what, found, wanted in (
        ("job", progress.job_digest, job.digest),
        ("datums", progress.data_digest, data_digest),
        ("base model", progress.base_digest, job.base_digest),
    ):
        if found != wanted:
            raise ConfigurationError(
                f"The checkpoint at step {progress.step} belongs to another {what} ({found[:12]}, here {wanted[:12]}). "
                "Submit the job under a new id."
            )


def _step(learner: Learner, optimiser: torch.optim.Optimizer, job: TrainJob, batch: Minibatch) -> dict[str, float]:
    settings = loss_of(job.objective)
    if not batch.trunks:
        batch.trunks = [learner.trunk(pack) for pack in batch.packs]
        if settings.kl > 0:
            batch.bases = [learner.base_logprobs(*pair) for pair in zip(batch.packs, batch.trunks, strict=True)]
    sums: dict[str, float] = {}
    for index, packed in enumerate(batch.packs):
        decided = learner.decide(packed, batch.trunks[index])
        loss = policy_loss(decided.logprobs, packed.decisions, settings, batch.bases[index] if batch.bases else None)
        (loss.total / batch.weight).backward()
        weights = torch.tensor([decision.weight for decision in packed.decisions])
        for name, value in {**loss.sums, "entropy": float((decided.entropies * weights).sum())}.items():
            sums[name] = sums.get(name, 0.0) + value
    learner.collect_gradients()
    norm = float(torch.nn.utils.clip_grad_norm_(learner.masters.values(), job.max_grad_norm))
    if norm != norm or norm == float("inf"):
        raise ConfigurationError(f"The gradient is {norm}: the log-probabilities or the base's weights are not finite.")
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    learner.publish()
    return {**{name: value / batch.weight for name, value in sums.items()}, "grad_norm": norm}


def _consumed(job: TrainJob, batches: Sequence[Minibatch], steps: int) -> int:
    return sum(batches[batch_at(job, len(batches), step)].datums for step in range(steps))


def _save_optimiser(folder: Path, learner: Learner, optimiser: torch.optim.Optimizer) -> None:
    tensors: dict[str, Tensor] = {}
    steps = 0
    for name, master in learner.masters.items():
        state = optimiser.state[master]
        tensors[f"exp_avg.{name}"] = state["exp_avg"]
        tensors[f"exp_avg_sq.{name}"] = state["exp_avg_sq"]
        steps = int(state["step"])
    save_file(tensors, folder / "optimizer.safetensors")
    described: dict[str, JsonValue] = {"name": "adamw", "betas": [*BETAS], "eps": EPSILON, "steps": steps}
    (folder / "optimizer.json").write_bytes(canonical_json(described))


def _load_optimiser(folder: Path, learner: Learner, optimiser: torch.optim.Optimizer) -> None:
    tensors = load_file(folder / "optimizer.safetensors")
    steps = json.loads((folder / "optimizer.json").read_bytes())["steps"]
    for name, master in learner.masters.items():
        optimiser.state[master] = {
            "step": torch.tensor(float(steps)),
            "exp_avg": tensors[f"exp_avg.{name}"],
            "exp_avg_sq": tensors[f"exp_avg_sq.{name}"],
        }
