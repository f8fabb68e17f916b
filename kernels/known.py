"""What small tensors hold at a variant's size, where that follows from the recorded steps without any input.

A launch is counted on addresses without memory behind them. A table of tile orders, a count of trips or a flag decides
what its programs do, so each launch comes with the steps that fill such tensors: they are taken again where it is
counted, by a process that runs none of the submission's host code.

    preludes = find_preludes(recorded, kernels)  # by the place of a launch in the last call
"""

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydantic import JsonValue

from .answers import Descriptor, Launched, Operated, SessionAnswer, Tensor
from .extract import Kernels
from .model.steps import mutates

MOST_BYTES, MOST_PROGRAMS = 64 << 20, 4096
"""Of the tensors that a step touches, and of its grid, for it to be taken again."""
_ZEROS = ("zeros", "zeros_like", "new_zeros", "zero_")
"""What holds nothing else needs no step: memory that isn't there reads as zeros."""
_ALLOCATE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_LOADS, _WRITES = ("load", "gather"), ("store", "scatter", "atomic")


@dataclass(frozen=True)
class Prelude:
    """The steps behind the known tensors of a launch."""

    steps: tuple[tuple[Launched | Operated, Mapping[str, bool]], ...]
    """In order, each with the flags of its call."""
    storages: tuple[int, ...]
    """Those of the launch whose contents follow."""


def find_preludes(session: SessionAnswer, kernels: Kernels) -> dict[int, Prelude]:
    """For launches of the last call, by their place in it, what is known of the tensors that they are given."""
    steps = [(step, dict[str, bool](), -1) for step in session.prologue]
    for call in session.calls:
        last = call is session.calls[-1]
        steps += [(step, call.flags, place if last else -1) for place, step in enumerate(call.steps)]
    inputs = {tensor.t for call in session.calls for tensor in call.inputs.values()}
    behind: dict[int, frozenset[int]] = {number: frozenset() for number in session.constants if number not in inputs}
    """For each storage whose contents are known, the steps that they take."""
    blank: set[int] = set()
    found: dict[int, Prelude] = {}
    for index, (step, _, place) in enumerate(steps):
        touched, written = _touched(step, kernels)
        if isinstance(step, Launched) and place >= 0:
            storages = tuple(sorted(each for each in touched & behind.keys() if not _zeros(steps, behind[each])))
            if storages:
                needed = sorted(frozenset[int]().union(*(behind[number] for number in storages)))
                found[place] = Prelude(tuple(steps[each][:2] for each in needed), storages)
        if isinstance(step, Operated) and step.name in _ALLOCATE:
            blank |= written - inputs
            continue
        programs = math.prod(step.grid) if isinstance(step, Launched) else 1
        size = sum(session.sizes[number] for number in touched | written if number < len(session.sizes))
        fresh = written - touched
        if touched <= behind.keys() | blank and size <= MOST_BYTES and programs <= MOST_PROGRAMS and written:
            whole = frozenset({index}).union(*(behind.get(number, frozenset()) for number in touched))
            behind |= dict.fromkeys((written & (behind.keys() | blank)) | fresh, whole)
        else:
            for number in written:
                behind.pop(number, None)
        blank -= written
    return found


def _zeros(steps: Sequence[tuple[Launched | Operated, Mapping[str, bool], int]], behind: frozenset[int]) -> bool:
    made = [steps[each][0] for each in behind]
    return bool(made) and all(isinstance(step, Operated) and step.name in _ZEROS for step in made)


def _touched(step: Launched | Operated, kernels: Kernels) -> tuple[set[int], set[int]]:
    """The storages that a step is given, and those that it may write."""
    if isinstance(step, Launched):
        given = {name: _tensor(value) for name, value in step.arguments.items()}
        writes = written_parameters(kernels.modules.get(step.kernel, ""), step.kernel)
        touched = {tensor.t for tensor in given.values() if tensor is not None}
        return touched, {t.t for name, t in given.items() if t is not None and (writes is None or name in writes)}
    touched = set(_numbers([*step.args, dict(step.kwargs)]))
    written = {out.t for out in step.outs if out is not None} | set(_numbers(step.kwargs.get("out")))
    if mutates(step.model_dump(include={"op"})):
        written |= set(_numbers(step.args[:1]))
    return touched - {out.t for out in step.outs if out is not None}, written


def _tensor(value: object) -> Tensor | None:
    return value.descriptor if isinstance(value, Descriptor) else value if isinstance(value, Tensor) else None


def _numbers(value: JsonValue) -> Iterator[int]:
    if isinstance(value, dict):
        number = value.get("t")
        if isinstance(number, int):
            yield number
        else:
            for part in value.values():
                yield from _numbers(part)
    elif isinstance(value, list):
        for part in value:
            yield from _numbers(part)


@lru_cache(256)
def written_parameters(module: str, kernel: str) -> frozenset[str] | None:
    """The parameters of a kernel through which it may write; none if that can't be told, so that it may be any.

    What is made of a parameter counts as the parameter, but for what is loaded through it; what another kernel is
    given, it may write.
    """
    functions = {node.name: node for node in ast.parse(module).body if isinstance(node, ast.FunctionDef)}
    if kernel not in functions:
        return None
    function = functions[kernel]
    sources = {argument.arg: {argument.arg} for argument in [*function.args.args, *function.args.kwonlyargs]}
    grown = True
    while grown:
        grown = False
        for node in ast.walk(function):
            for target, value in _assigned(node):
                came = set[str]().union(*(sources.get(name, set()) for name in _names(value)))
                for name in _names(target):
                    if not came <= sources.setdefault(name, set()):
                        sources[name] |= came
                        grown = True
    writes: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            whole = name in functions
            if whole or name.startswith(_WRITES):
                places = [*node.args, *(word.value for word in node.keywords)] if whole else [node.func, *node.args[:1]]
                places += [word.value for word in node.keywords if word.arg in ("pointer", "ptr", "desc")]
                writes |= set[str]().union(*(sources.get(each, set()) for part in places for each in _names(part)))
    return frozenset(writes)


def _assigned(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, ast.For | ast.comprehension):
        yield node.target, node.iter


def _names(node: ast.AST) -> set[str]:
    """Those whose value becomes part of a node's: not of what it loads."""
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name.startswith((*_LOADS, "atomic")):
            return set()
    if isinstance(node, ast.Name):
        return {node.id}
    return set[str]().union(*map(_names, ast.iter_child_nodes(node)))
