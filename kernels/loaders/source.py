"""What a foreign problem's files say, read without running them."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from ...core import ConfigurationError

Value: TypeAlias = bool | int | float | str
Parameters: TypeAlias = dict[str, Value]

_TEXT_BYTES = 4 << 20


class Format(StrEnum):
    """How a problem is written down."""

    GPU_MODE = "gpu-mode"
    """A folder with `task.yml` and `reference.py`."""
    KERNEL_BENCH = "kernel-bench"
    """A file with `Model`, `get_inputs` and `get_init_inputs`."""


@dataclass(frozen=True)
class ForeignSource:
    """A problem's files and cases."""

    format: Format
    path: Path
    """The file whose code is the reference, for messages."""
    name: str
    reference: str
    """Its text."""
    modules: Mapping[str, str]
    """Text by name of the modules that reference and submissions may import, in the order of their imports."""
    tests: tuple[Parameters, ...]
    benchmarks: tuple[Parameters, ...]
    seed: str
    """The reference as a submission."""
    about: str
    epilogue: str = ""
    """What is put behind a submission, so that it defines `custom_kernel`."""


def read_text(path: Path, what: str) -> str:
    """Read a file of a problem.

    Raises:
        ConfigurationError: it isn't there, or isn't text; the message names it and says what was expected.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: expected {what}, but it can't be read: {error.strerror}.") from None
    if len(data) > _TEXT_BYTES:
        raise ConfigurationError(f"{path}: {len(data)} bytes, expected {what} of at most {_TEXT_BYTES}.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: expected {what} in UTF-8; {error}.") from None


def parse_module(path: Path, text: str, needs: tuple[str, ...]) -> ast.Module:
    """Parse Python that must define these names at its top level.

    Raises:
        ConfigurationError: it doesn't parse, or lacks one; the message names the file.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f" at line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigurationError(f"{path}: expected Python, and it doesn't parse{line}: {error}.") from None
    lacking = [name for name in needs if name not in _defined(tree)]
    if lacking:
        raise ConfigurationError(
            f"{path}: it lacks {', '.join(lacking)}; expected {', '.join(needs)} at its top level."
        )
    return tree


def _defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):  # also below `if` and `try`
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
    return names


def complete_submission(submission: str, epilogue: str) -> str:
    """Put the epilogue behind a submission that defines `ModelNew` and no `custom_kernel`."""
    try:
        tree = ast.parse(submission)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return submission  # the verifier says what is wrong
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    if not epilogue or "custom_kernel" in names or "ModelNew" not in names:
        return submission
    return f"{submission.rstrip()}\n\n\n{epilogue}"
