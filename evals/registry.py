"""Tasks by name, found through the entry points of the group `pawl.tasks`.

    environment = TaskEnvironment(sandbox=sandbox, cache=home.verifications)
    task = load_task("trimul", environment)

An entry point names a class that is called with one `TaskEnvironment` and gives a `Task`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..core import NotFound
from ..safety.sandbox import Sandbox
from .task import Metric, Task

if TYPE_CHECKING:
    from ..kernels.measure import Accelerator

GROUP = "pawl.tasks"


@dataclass(frozen=True)
class TaskEnvironment:
    """What a task may use to grade."""

    sandbox: Sandbox
    cache: Path
    """Folder where this process may keep verification reports."""
    shared_cache: Path | None = None
    """A folder of reports that is only read."""
    workers: int = 2
    """Verifications that run side by side."""
    accelerator: "Accelerator | None" = None
    """Device that accepted kernels are timed on; none leaves their times estimated."""


def task_names() -> list[str]:
    """The names of all registered tasks, without loading one."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_task(name: str, environment: TaskEnvironment) -> Task:
    """Load a task's class and construct it.

    A plug-in that fails to load warns, and is then as unknown as one that isn't there.

    Raises:
        NotFound: no task of that name can be loaded; the message lists those that are registered.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.value):
        if point.name == name:
            task = _construct(point, environment)
            if task is not None:
                return task
    raise NotFound(
        f"No task named {name!r} can be loaded. Registered are: {', '.join(task_names()) or 'none'}. "
        f"A package adds one by the entry point group {GROUP!r}."
    )


def declared_metric(name: str) -> Metric | None:
    """The metric that a task's class declares, without constructing a task; none where it declares none."""
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.value):
        if point.name == name:
            try:
                metric = getattr(point.load(), "metric", None)
            except Exception:  # noqa: S112 - whoever needs the task itself is warned
                continue
            if isinstance(metric, Metric):
                return metric
    return None


def _construct(point: EntryPoint, environment: TaskEnvironment) -> Task | None:
    package = point.dist.name if point.dist is not None else "an unknown package"
    try:
        make = cast("Callable[[TaskEnvironment], object]", point.load())
        task = make(environment)
    except Exception as error:
        warnings.warn(
            f"The task {point.name!r} of {package} ({point.value}) can't be loaded: {error!r}. "
            "Repair or uninstall that package.",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    if not isinstance(task, Task):
        warnings.warn(
            f"The task {point.name!r} of {package} ({point.value}) isn't a Task: it lacks one of "
            "name, metric, items, seed_scaffold, tools, grade, perturb, cheats, close.",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return task
