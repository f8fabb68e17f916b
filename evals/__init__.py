"""Tasks, grades, races, and the judge that keeps what is sealed."""

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
