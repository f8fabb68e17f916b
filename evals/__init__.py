"""Tasks, grades, races, and the judge that keeps what is sealed.

Names are loaded on first use: a library that looks for a top-level package `evals` from the repository's root finds
this folder, and must be able to import it to no effect.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .races import Effect, Guard, Outcome, Race, RaceRules, Verdict, paired_effects, target_race
    from .registry import TaskEnvironment, load_task, task_names
    from .scaffold import Exemplar, Mode, ScaffoldConfig
    from .task import Cheat, Direction, Item, Metric, Split, Task

__all__ = [
    "Cheat",
    "Direction",
    "Effect",
    "Exemplar",
    "Guard",
    "Item",
    "Metric",
    "Mode",
    "Outcome",
    "Race",
    "RaceRules",
    "ScaffoldConfig",
    "Split",
    "Task",
    "TaskEnvironment",
    "Verdict",
    "load_task",
    "paired_effects",
    "target_race",
    "task_names",
]

_WHERE = {
    "Cheat": "task",
    "Direction": "task",
    "Effect": "races",
    "Exemplar": "scaffold",
    "Guard": "races",
    "Item": "task",
    "Metric": "task",
    "Mode": "scaffold",
    "Outcome": "races",
    "Race": "races",
    "RaceRules": "races",
    "ScaffoldConfig": "scaffold",
    "Split": "task",
    "Task": "task",
    "TaskEnvironment": "registry",
    "Verdict": "races",
    "load_task": "registry",
    "paired_effects": "races",
    "target_race": "races",
    "task_names": "registry",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
