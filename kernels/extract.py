"""Takes the Triton kernels out of a submission, and leaves its host code behind.

What compiles, counts and replays kernels executes this text alone: the imports of Triton, constants, and the functions
under `@triton.jit` that lie within the kernel language (`language.py`), with literal defaults and no annotation but
`tl.constexpr`.
"""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass

from .constants import Constant, constant_value
from .language import check_kernel, find_modules, free_names

SOURCE_BYTES, KERNELS = 1 << 20, 128
"""Of a submission, and of its kernels, which may each be part of the text of all others."""


@dataclass(frozen=True)
class Kernels:
    """The kernels of a submission."""

    modules: Mapping[str, str]
    """Each kernel's name, and a module that holds it and what it calls."""
    refused: Mapping[str, str]
    """Kernels that say, or call what says, something outside the kernel language, and what."""


def extract_kernels(source: str) -> Kernels:
    """Find each function under `@triton.jit`; autotuning and heuristics around it are host code.

    Raises:
        SyntaxError: the source doesn't parse.
        ValueError: there are more than `KERNELS`.
    """
    tree = ast.parse(source)
    imports = find_modules(tree)
    found: dict[str, tuple[ast.FunctionDef, ast.expr]] = {}
    constants: dict[str, str] = {}
    values: dict[str, Constant] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and (decorator := _jit(node, imports)):
            found[node.name] = node, decorator
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            name, text = _constant(node, imports, values)
            constants.pop(name, None)
            if name and text is not None:
                constants[name] = text
    if len(found) > KERNELS:
        raise ValueError(f"it has {len(found)} kernels, at most {KERNELS} are read")
    known = frozenset({*found, *constants})
    wrong = {name: words for name, (node, _) in found.items() if (words := check_kernel(node, known, imports))}
    uses = {name: free_names(node) for name, (node, _) in found.items()}
    functions = {name: _clean(node, decorator) for name, (node, decorator) in found.items()}
    header = _header(imports)
    modules: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name in sorted(functions):
        needed = _needed(name, uses, known)
        said = [f"{each}, {wrong[each]}" for each in sorted(needed) if each in wrong]
        if said:
            refused[name] = said[0]
            continue
        parts = [constants[word] for word in sorted(needed) if word in constants]
        parts += [functions[word] for word in sorted(needed) if word in functions]
        modules[name] = header + "\n\n" + "\n\n\n".join(parts) + "\n"
    return Kernels(modules, refused)


def _header(imports: Mapping[str, str]) -> str:
    lines = ["import triton", "import triton.language as tl"]
    for name, path in sorted(imports.items()):
        if path.startswith("triton.language") or path in ("triton.cdiv", "triton.next_power_of_2"):
            head, _, tail = path.rpartition(".")
            line = f"from {head} import {tail}" + (f" as {name}" if name != tail else "")
            if (name, path) != ("tl", "triton.language"):
                lines.append(line)
    return "\n".join(lines) + "\n"


def _jit(node: ast.FunctionDef, imports: Mapping[str, str]) -> ast.expr | None:
    if not node.decorator_list:
        return None
    decorator = node.decorator_list[-1]
    if _name_of(decorator, imports) not in ("triton.jit", "triton.runtime.jit"):
        return None
    around = [_name_of(each, imports) for each in node.decorator_list[:-1]]
    if any(each not in ("triton.autotune", "triton.heuristics") for each in around):
        return None
    if isinstance(decorator, ast.Call):
        literal = all(_is_literal(word.value) for word in decorator.keywords)
        if decorator.args or not literal:
            return None
    return decorator


def _name_of(decorator: ast.expr, imports: Mapping[str, str]) -> str:
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    first, _, rest = ast.unparse(call).partition(".")
    return ".".join(part for part in (imports.get(first, first), rest) if part)


def _clean(node: ast.FunctionDef, decorator: ast.expr) -> str:
    arguments = node.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        fixed = argument.annotation is not None and "constexpr" in ast.unparse(argument.annotation)
        argument.annotation = ast.parse("tl.constexpr", mode="eval").body if fixed else None
    if not all(_is_literal(value) for value in [*arguments.defaults, *arguments.kw_defaults] if value is not None):
        arguments.defaults, arguments.kw_defaults = [], [None] * len(arguments.kwonlyargs)
    node.returns = None
    words = decorator.keywords if isinstance(decorator, ast.Call) else []
    jit = ast.parse("triton.jit", mode="eval").body
    node.decorator_list = [ast.Call(jit, [], words) if words else jit]
    return ast.unparse(node)


def _constant(
    node: ast.Assign | ast.AnnAssign, imports: Mapping[str, str], values: dict[str, Constant]
) -> tuple[str, str | None]:
    """The name that an assignment gives, and its text in the module of a kernel; none if that isn't constant.

    Adds to `values` what single numbers and words are, which may be named in what follows.
    """
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    value = node.value
    name = target.id if isinstance(target, ast.Name) else ""
    values.pop(name, None)
    if value is None:
        return name, None
    if isinstance(value, ast.Call) and _name_of(value, imports) == "triton.language.constexpr" and value.args:
        value = value.args[0]
    try:
        found = values[name] = constant_value(value, values)
    except ValueError:
        return name, f"{name} = tl.constexpr({ast.unparse(value)})" if _is_literal(value) else None
    text = f"float('{found}')" if isinstance(found, float) and not math.isfinite(found) else repr(found)
    return name, f"{name} = tl.constexpr({text})"


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _needed(name: str, uses: Mapping[str, frozenset[str]], known: frozenset[str]) -> set[str]:
    needed: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in needed:
            needed.add(current)
            waiting += uses.get(current, frozenset()) & known
    return needed


def interpreted_source(source: str) -> str:
    """The source with everything made equal that the interpreter doesn't look at, line for line.

    That is the module's docstring, and literal `num_warps`, `num_stages`, `num_ctas` and `maxnreg` of launches
    `kernel[grid](...)`: sources that differ in nothing else give the same output, so one run answers for all.

    Raises:
        SyntaxError: the source doesn't parse.
        ValueError: it is longer than `SOURCE_BYTES`.
    """
    if len(source) > SOURCE_BYTES:
        raise ValueError(f"it has {len(source)} characters, at most {SOURCE_BYTES} are read")
    tree = ast.parse(source)
    lines = source.encode().splitlines(keepends=True)
    spans: list[tuple[ast.expr, bytes]] = []
    if tree.body and isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant):
        spans.append((tree.body[0].value, b'""'))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
            spans += [
                (word.value, b"1")
                for word in node.keywords
                if word.arg in ("num_warps", "num_stages", "num_ctas", "maxnreg")
                and isinstance(word.value, ast.Constant)
            ]
    for node, text in sorted(spans, key=lambda span: (span[0].lineno, span[0].col_offset), reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head, tail = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        lines[first : last + 1] = [head + text + (b"\n" * (last - first)) + tail]
        # One entry now holds several lines; what is still to be replaced lies before it.
    return b"".join(lines).decode()
