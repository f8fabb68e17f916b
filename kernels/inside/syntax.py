# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# ruff: noqa: N802
"""What the interpreter must know of a kernel's source: `and`, `or`, `not` on tensors, and loops that wait.

Python decides `a and b` by the truth of `a`; Triton's compiler makes it one operation on both.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import ASTTransformer, InterpretedFunction

_WAITS = ("atomic_cas", "atomic_xchg", "atomic_load", "atomic_poll")
"""Calls that a loop repeats in order to wait; so it does volatile loads and additions of nothing."""
_QUIET = ("atomic_add", "atomic_or", "atomic_xor", "atomic_max", "atomic_min")
_known: dict[Any, bool] = {}
_deciding: dict[Any, bool] = {}
_asking: dict[Any, bool] = {}


class Transformer(ASTTransformer):
    """Triton's own rewriting, and logical operators as functions of all their operands."""

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """`a and b` becomes a call that evaluates both if they are tensors."""
        self.generic_visit(node)
        if any(isinstance(part, ast.NamedExpr) for part in ast.walk(node)):
            return node  # a name bound inside a lambda would be lost
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        name = "_all_of" if isinstance(node.op, ast.And) else "_any_of"
        operands: list[ast.expr] = [ast.Lambda(args=nothing, body=value) for value in node.values]
        return ast.copy_location(ast.Call(func=ast.Name(name, ast.Load()), args=operands, keywords=[]), node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """`not a` becomes a call."""
        self.generic_visit(node)
        if not isinstance(node.op, ast.Not):
            return node
        return ast.copy_location(ast.Call(func=ast.Name("_not", ast.Load()), args=[node.operand], keywords=[]), node)


def spins(kernel: Any) -> bool:
    """Whether a kernel, or a device function that it calls, has a loop that waits for another program."""
    if kernel not in _known:
        _known[kernel] = False  # in case it calls itself
        _known[kernel] = _spins(kernel.fn)
    return _known[kernel]


def _spins(function: Any) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.While) and any(_waits(part, function.__globals__) for part in ast.walk(node)):
            return True
        if isinstance(node, ast.Name):
            called = function.__globals__.get(node.id)
            if isinstance(called, InterpretedFunction) and not _of_triton(called) and spins(called):
                return True
    return False


def _waits(node: ast.AST, names: dict[str, Any]) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in _WAITS:
        return True
    if name in _QUIET:
        values = [k.value for k in node.keywords if k.arg == "val"] + node.args[1:2]
        return any(isinstance(value, ast.Constant) and value.value == 0 for value in values)
    called = names.get(name)
    if isinstance(called, InterpretedFunction) and not _of_triton(called):
        source = textwrap.dedent(inspect.getsource(called.fn))
        return any(_waits(part, called.fn.__globals__) for part in ast.walk(ast.parse(source)))
    return name == "load" and any(k.arg == "volatile" and getattr(k.value, "value", 1) for k in node.keywords)


def uses_old_contents(kernel: Any) -> bool:
    """Whether a kernel, or a device function that it calls, does something with what an atomic operation returns."""
    if kernel not in _asking:
        _asking[kernel] = False  # in case it calls itself
        _asking[kernel] = _uses_old_contents(kernel.fn)
    return _asking[kernel]


def _uses_old_contents(function: Any) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    dropped = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node not in dropped:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name.startswith("atomic_"):
                return True
        if isinstance(node, ast.Name):
            called = function.__globals__.get(node.id)
            if isinstance(called, InterpretedFunction) and not _of_triton(called) and uses_old_contents(called):
                return True
    return False


def writes_before_deciding(kernel: Any) -> bool:
    """Whether programs of a kernel may still part after one of them has written memory."""
    if kernel not in _deciding:
        events = _Events()
        events.follow(kernel)
        _deciding[kernel] = events.late
    return _deciding[kernel]


class _Events(ast.NodeVisitor):
    """Walks a kernel in the order in which it runs, and notes a decision that comes after a write."""

    def __init__(self) -> None:
        self.written = self.late = False
        self._names: dict[str, Any] = {}
        self._within: list[Any] = []

    def follow(self, function: Any) -> None:
        if function in self._within:
            return
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function.fn)))
        except (OSError, TypeError, SyntaxError):
            self.written = self.late = True
            return
        outer, self._names = self._names, function.fn.__globals__
        self._within.append(function)
        for statement in getattr(tree.body[0], "body", []):
            self.visit(statement)
        self._within.pop()
        self._names = outer

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        called = self._names.get(name) if isinstance(node.func, ast.Name) else self._member(node.func)
        if isinstance(called, InterpretedFunction):
            if not _of_triton(called):
                self.follow(called)
        elif name in ("store", "scatter") or name.startswith("atomic_"):
            self.written = True
        elif name in ("int", "bool", "range", "static_range"):
            self._decide()

    def _member(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return getattr(self._names.get(node.value.id), node.attr, None)
        return None

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        for _ in range(2):  # what comes first in the second turn follows what came last in the first
            for statement in node.body:
                self.visit(statement)

    def visit_While(self, node: ast.While) -> None:
        for _ in range(2):
            self.visit(node.test)
            self._decide()
            for statement in node.body:
                self.visit(statement)
        self._decide()

    def _branch(self, node: Any) -> None:
        self.visit(node.test)
        self._decide()
        self.generic_visit(node)

    visit_If = visit_IfExp = visit_Assert = _branch  # noqa: N815

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.generic_visit(node)
        self._decide()

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._decide()
        self.generic_visit(node)

    def _decide(self) -> None:
        self.late = self.late or self.written


def _of_triton(function: Any) -> bool:
    return function.fn.__module__.startswith("triton.")


def _all_of(*operands: Callable[[], Any]) -> Any:
    return _logical(operands, until=False, combine="logical_and")


def _any_of(*operands: Callable[[], Any]) -> Any:
    return _logical(operands, until=True, combine="logical_or")


def _logical(operands: tuple[Callable[[], Any], ...], until: bool, combine: str) -> Any:
    tensors: list[Any] = []
    value = None
    for operand in operands:
        value = operand()
        if isinstance(value, tl.tensor):
            tensors.append(value if value.dtype == tl.int1 else value != 0)
        elif bool(value) is until:
            return value
    if not tensors:
        return value
    result = tensors.pop()
    while tensors:
        result = getattr(tensors.pop(), combine)(result)
    return result


def _not(value: Any) -> Any:
    return (value == 0) if isinstance(value, tl.tensor) else not value


# A rewritten kernel finds the names of Triton's interpreter module among its globals.
for _function in (_all_of, _any_of, _not):
    setattr(interpreter, _function.__name__, _function)
