"""Grading trajectories side by side, and what a set of graded ones amounts to."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ..core import Trajectory
from ..evals.evaluate import graded
from ..evals.statistics import mean, paired_interval
from ..evals.task import Item, Task
from .failures import failure_class
from .state import Evaluation

AT_ONCE = 8
"""Gradings under way at once; a task bounds its own processes further."""


async def grade_all(
    task: Task,
    items: Mapping[str, Item],
    trajectories: Sequence[Trajectory],
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Give each trajectory its grade, in the order given."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(trajectory: Trajectory) -> Trajectory:
        async with limit:
            return await graded(task, items[trajectory.item], trajectory, on_done)

    return list(await asyncio.gather(*(one(trajectory) for trajectory in trajectories)))


def values_by_item(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Mean grade of each item over its attempts."""
    groups: dict[str, list[float]] = {}
    for trajectory in trajectories:
        if trajectory.grade is not None:
            groups.setdefault(trajectory.item, []).append(trajectory.grade.value)
    return {item: sum(values) / len(values) for item, values in sorted(groups.items())}


def summarise(trajectories: Sequence[Trajectory], seed: int) -> Evaluation:
    """Mean with its 95 % interval over items, and failures by class."""
    means = list(values_by_item(trajectories).values())
    low, high = paired_interval(means, seed)
    known = len(means) > 1
    failures = Counter(name for trajectory in trajectories if (name := failure_class(trajectory)) is not None)
    return Evaluation(
        mean=mean(means),
        low=low if known else None,
        high=high if known else None,
        rollouts=len(trajectories),
        valid=sum(1 for trajectory in trajectories if trajectory.grade is not None and trajectory.grade.valid),
        failures=dict(sorted(failures.items())),
    )
