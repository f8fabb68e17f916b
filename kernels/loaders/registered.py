"""Problems by a name that the house doesn't have: those that were loaded here, and those that packages register.

An entry point of the group `pawl.problems` names a `KernelProblem`, a class or function that gives one without
arguments, or a path that `load_problem` takes. One that can't be loaded warns and names itself.
"""

import threading
import warnings
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from ..problem import KernelProblem

GROUP = "pawl.problems"
_ASKED = ("name", "inputs", "reference", "specs", "arguments", "correctness", "benchmark", "tolerance", "seed_source")

_loaded: dict[str, KernelProblem] = {}
_lock = threading.Lock()


def remember(problem: KernelProblem) -> KernelProblem:
    """Let a problem be found by its name, in this program; returns the one of that name that is known already."""
    with _lock:
        return _loaded.setdefault(problem.name, problem)


def registered_names() -> list[str]:
    """Names that entry points give, without loading one."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def registered_problem(name: str) -> KernelProblem | None:
    """The problem of a name that was loaded, or that a package registers; none where there is none that works."""
    with _lock:
        if name in _loaded:
            return _loaded[name]
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.value):
        if point.name == name:
            problem = _construct(point)
            if problem is not None:
                with _lock:
                    return _loaded.setdefault(name, problem)
    return None


def _construct(point: EntryPoint) -> KernelProblem | None:
    package = point.dist.name if point.dist is not None else "an unknown package"
    try:
        found: object = point.load()
        if isinstance(found, str | Path):
            from . import load_problem

            found = load_problem(Path(found))
        elif isinstance(found, type) or not hasattr(found, "reference"):
            found = cast("Callable[[], object]", found)()
    except Exception as error:
        warnings.warn(
            f"The problem {point.name!r} of {package} ({point.value}) can't be loaded: {error!r}. "
            "Repair or uninstall that package.",
            RuntimeWarning,
            stacklevel=4,
        )
        return None
    lacking = [name for name in _ASKED if not hasattr(found, name)]
    if lacking:
        warnings.warn(
            f"The problem {point.name!r} of {package} ({point.value}) isn't a KernelProblem: it lacks {lacking}.",
            RuntimeWarning,
            stacklevel=4,
        )
        return None
    return cast("KernelProblem", found)
