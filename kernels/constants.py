"""The constants of a module that its kernels may name, worked out without running the module.

constant_value(ast.parse("2 * float('-inf')", mode="eval").body, {})  # -inf
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping

Constant = bool | int | float | str | None

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b, ast.Mod: operator.mod, ast.Pow: lambda a, b: a**b,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_NAMED, _FUNCTIONS = frozenset({"e", "inf", "nan", "pi"}), frozenset({"exp", "log", "log10", "log2", "sqrt"})
"""Of the module `math`."""
_LARGEST_POWER = 64


def constant_value(node: ast.expr, known: Mapping[str, Constant]) -> Constant:
    """The value of an expression of numbers, `float("inf")`, `math.log2(math.e)` and constants before it.

    Raises:
        ValueError: it is something else, or has no value.
    """
    try:
        return _value(node, known)
    except (ArithmeticError, TypeError, RecursionError) as error:
        raise ValueError(f"no constant: {error}") from None


def _value(node: ast.expr, known: Mapping[str, Constant]) -> Constant:
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool | int | float | str)):
        return node.value
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.Attribute) and _of_math(node) and node.attr in _NAMED:
        return float(getattr(math, node.attr))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_number(node.operand, known))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _number(node.left, known), _number(node.right, known)
        if isinstance(node.op, ast.Pow) and not abs(right) <= _LARGEST_POWER:
            raise ValueError("a power that is too large")
        result = _BINARY[type(node.op)](left, right)
        if isinstance(result, complex) or (isinstance(result, int) and abs(result) > 1 << 64):
            raise ValueError("a number that no kernel holds")
        return result
    if isinstance(node, ast.Call) and not node.keywords and len(node.args) == 1:
        function = node.func
        if isinstance(function, ast.Attribute) and _of_math(function) and function.attr in _FUNCTIONS:
            return float(getattr(math, function.attr)(_number(node.args[0], known)))
        if isinstance(function, ast.Name) and function.id in ("float", "int"):
            given = _value(node.args[0], known)
            if given is not None:
                return float(given) if function.id == "float" else int(given)
    raise ValueError("no constant")


def _number(node: ast.expr, known: Mapping[str, Constant]) -> float:
    value = _value(node, known)
    if value is None or isinstance(value, str):
        raise ValueError("no number")
    return value


def _of_math(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "math"
