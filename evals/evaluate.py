"""Evaluation: a version on items, rolled out in the sandbox and graded by the task.

attempts = [(item, rollout_seed(campaign_seed, item)) for item in task.items(Split.OPTIMISE, seed, 32)]
trajectories = await evaluate(version, attempts, task=task, store=store, endpoint=endpoint, sandbox=sandbox, work=work)
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from ..core import ArtifactStore, Grade, Trajectory, Usage, Version, derive_seed
from ..safety.sandbox import Sandbox
from ..safety.telemetry import names, span
from ..serving.policy import Endpoint
from ..serving.runner import Rollout, RolloutLimits, run_rollouts
from .task import Item, Task

Attempt: TypeAlias = tuple[Item, int]
"""An item, and the seed of one rollout at it."""


def rollout_seed(campaign_seed: int, item: Item, attempt: int = 0) -> int:
    """The seed of an attempt: the same for candidate and live, so that effects are paired by common random numbers."""
    return derive_seed(campaign_seed, "rollout", item.id, attempt)


async def evaluate(
    version: Version,
    attempts: Sequence[Attempt],
    *,
    task: Task,
    store: ArtifactStore,
    endpoint: Endpoint,
    sandbox: Sandbox,
    work: Path,
    limits: RolloutLimits | None = None,
    batch: int = 32,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Roll a version out on every attempt and grade what comes back.

    Rollouts run in lock step, `batch` at a time, always composed alike, so that the same attempts give the same
    tokens. A batch is graded while the next one runs.

    Args:
        version: what is evaluated.
        attempts: items with their rollout seeds.
        task: gives tools and grades.
        store: holds the version's scaffold.
        endpoint: the model server.
        sandbox: runs the scaffold.
        work: scratch folder of this evaluation.
        limits: of each rollout.
        batch: rollouts in lock step.
        on_done: called with each graded trajectory, as it is graded.

    Returns:
        One graded trajectory an attempt, in the order of the attempts. An attempt without an output has the task's
        worst grade, with why it stopped as the reason.

    Raises:
        PawlError: what isn't the candidate's doing: a missing artefact, a stop, a verifier that doesn't start.
    """
    grading: list[asyncio.Task[Trajectory]] = []
    try:
        for start in range(0, len(attempts), batch):
            part = attempts[start : start + batch]
            rollouts = [rollout_of(version, task, item, seed) for item, seed in part]
            done = await run_rollouts(
                rollouts,
                store=store,
                endpoint=endpoint,
                sandbox=sandbox,
                work=work,
                limits=limits,
                batch=batch,
            )
            grading += [
                asyncio.create_task(graded(task, item, trajectory, on_done))
                for (item, _), trajectory in zip(part, done, strict=True)
            ]
        return [await each for each in grading]
    finally:
        for each in grading:
            each.cancel()
        await asyncio.gather(*grading, return_exceptions=True)


def rollout_of(version: Version, task: Task, item: Item, seed: int) -> Rollout:
    """What the runner is told of one attempt."""
    return Rollout(
        version=version, item=item.id, payload=item.payload, seed=seed, tools=task.tools(item), task=task.name
    )


async def graded(
    task: Task, item: Item, trajectory: Trajectory, on_done: Callable[[Trajectory], None] | None = None
) -> Trajectory:
    """The trajectory with its grade; without an output, the task's worst one, with why it stopped as the reason."""
    if trajectory.output is None:
        stop = trajectory.stop.value
        grade = Grade(value=task.metric.worst, valid=False, reasons=[stop], details={"failure_class": stop})
        cost = Usage()
    else:
        with span("grade", {names.TASK: task.name, names.ITEM: item.id}) as current:
            grade = await task.grade(item, trajectory.output)
            current.event(
                names.EVALUATION, {names.EVALUATION_NAME: task.metric.name, names.EVALUATION_SCORE: grade.value}
            )
            current.set(names.ACCEPTED, grade.valid)
        cost = Usage(verifications=1)
    rated = trajectory.model_copy(update={"grade": grade, "usage": trajectory.usage + cost})
    if on_done is not None:
        on_done(rated)
    return rated
