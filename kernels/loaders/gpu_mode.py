"""GPU MODE's problem folders: `task.yml`, `reference.py`, `task.py`, and `utils.py` beside them or one folder up.

    source = read_folder(Path("problems/bioml/trimul"))

`reference.py` defines `generate_input(**case)`, `ref_kernel(data)` and usually `check_implementation`; a submission
defines `custom_kernel(data)` and imports its types from `task`. The format is that of
https://github.com/gpu-mode/reference-kernels. Files that a problem doesn't bring are stood in for.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, JsonValue, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from ...core import ConfigurationError, digest_json
from .source import ForeignSource, Format, Parameters, Value, parse_module, read_text

TASK = "task.yml"
_CASE = "a case of numbers, text, and lists of them by name"
_TASK_TYPES = "from typing import Any\n\ninput_t = Any\noutput_t = Any\nTestSpec = dict\n"

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
Case = dict[str, Scalar | list[Scalar]]


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    source: str


class _Task(BaseModel):
    """What is used of `task.yml`; who ranks it and for how long it may run is the leaderboard's business."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    lang: str = "py"
    description: str = ""
    files: tuple[_File, ...] = ()
    tests: tuple[Case, ...] = ()
    benchmarks: tuple[Case, ...] = ()
    ranking_by: str = "last"


def read_folder(folder: Path) -> ForeignSource:
    """Read a problem folder, and run nothing of it.

    Raises:
        ConfigurationError: a file is missing, doesn't parse or lacks something; the message names it.
    """
    task = _read_task(folder / TASK)
    places = {file.name: folder / file.source for file in task.files if not file.source.startswith("@")}
    reference = places.get("reference.py", folder / "reference.py")
    text = read_text(reference, "the problem's reference, with generate_input and ref_kernel")
    parse_module(reference, text, ("generate_input", "ref_kernel"))
    modules = {
        "utils": _module(places.get("utils.py"), folder, "utils.py") or _shim(),
        "task": _module(places.get("task.py"), folder, "task.py") or _TASK_TYPES,
    }
    for name, place in places.items():  # what else a reference may import of its own
        stem = name.removesuffix(".py")
        if name.endswith(".py") and stem.isidentifier() and stem not in ("submission", "reference", "eval", *modules):
            modules[stem] = read_text(place, f"the module {name} that {folder / TASK} lists")
    content: list[JsonValue] = [text, dict(modules), [str(case) for case in (*task.tests, *task.benchmarks)]]
    return ForeignSource(
        format=Format.GPU_MODE,
        path=reference,
        name=f"{folder.resolve().name}@{digest_json(content)[:12]}",
        reference=text,
        modules=modules,
        tests=tuple(_parameters(case) for case in task.tests),
        benchmarks=tuple(_parameters(case) for case in task.benchmarks),
        seed=f"{text.rstrip()}\n\n\ndef custom_kernel(data):\n    return ref_kernel(data)\n",
        about=_about(task, text),
    )


def _read_task(path: Path) -> _Task:
    try:
        loaded: Any = yaml.safe_load(read_text(path, "GPU MODE's description of a problem"))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: expected YAML, and it doesn't parse: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: expected YAML, and it is nested too deeply.") from None
    if not isinstance(loaded, dict):
        raise ConfigurationError(
            f"{path}: expected a mapping with tests and benchmarks, not a {type(loaded).__name__}."
        )
    try:
        task = _Task.model_validate(loaded)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"][:3])
        raise ConfigurationError(f"{path}: {where}: {first['msg']}; expected {_CASE}, and files by name.") from None
    if task.lang != "py":
        raise ConfigurationError(f"{path}: lang is {task.lang!r}; expected 'py', submissions in Python.")
    for key, cases in (("tests", task.tests), ("benchmarks", task.benchmarks)):
        if not cases:
            raise ConfigurationError(f"{path}: it lacks {key}; expected a list, each of them {_CASE}.")
    return task


def _module(listed: Path | None, folder: Path, name: str) -> str | None:
    """A module's text: where the task lists it, else beside it, else one folder up."""
    for place in ([listed] if listed is not None else []) + [folder / name, folder.parent / name]:
        if place.is_file():
            return read_text(place, f"the problem's {name}")
    return None


def leaderboard_modules() -> dict[str, str]:
    """What a leaderboard's submissions import beside the libraries, in words of our own."""
    return {"utils": _shim(), "task": _TASK_TYPES}


def _shim() -> str:
    return (files("pawl.kernels.loaders") / "inside" / "utils_shim.py").read_text()


def _parameters(case: Case) -> Parameters:
    """A case with its lists made flat, and without its seed, which is the verifier's to choose."""
    found: Parameters = {}
    for name, value in case.items():
        if name != "seed":
            parts: dict[str, Value] = (
                {f"{name}.{place}": part for place, part in enumerate(value)}
                if isinstance(value, list)
                else {name: value}
            )
            found |= parts
    return found


def _about(task: _Task, reference: str) -> str:
    return (
        f"{task.description.strip()}\n\nWrite custom_kernel(data), which gets what generate_input gives and returns "
        f"what ref_kernel returns:\n\n{reference.strip()}\n"
    ).lstrip()
