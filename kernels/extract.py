"""Takes the Triton kernels out of a submission, and leaves its host code behind.

What compiles and counts kernels executes this text alone: the imports of Triton, constants, and the functions under
`@triton.jit`, with literal defaults and no annotation but `tl.constexpr`.
"""

import ast
import re

_HEADER = "import triton\nimport triton.language as tl\nfrom triton.language.extra import libdevice\n"


def extract_kernels(source: str) -> dict[str, str]:
    """Map each `@triton.jit` function's name to a module that holds it and what it calls.

    Raises:
        SyntaxError: the source doesn't parse.
    """
    tree = ast.parse(source)
    functions: dict[str, str] = {}
    constants: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and (decorator := _jit(node)):
            functions[node.name] = _clean(node, decorator)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and (constant := _constant(node)):
            constants[constant[0]] = constant[1]
    return {name: _closure(name, functions, constants) for name in sorted(functions)}


def _jit(node: ast.FunctionDef) -> ast.expr | None:
    if len(node.decorator_list) != 1:
        return None
    decorator = node.decorator_list[0]
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    if ast.unparse(call) not in ("triton.jit", "jit"):
        return None
    if isinstance(decorator, ast.Call):
        literal = all(_is_literal(word.value) for word in decorator.keywords)
        if decorator.args or not literal:
            return None
    return decorator


def _clean(node: ast.FunctionDef, decorator: ast.expr) -> str:
    arguments = node.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        fixed = argument.annotation is not None and "constexpr" in ast.unparse(argument.annotation)
        argument.annotation = ast.parse("tl.constexpr", mode="eval").body if fixed else None
    if not all(_is_literal(value) for value in [*arguments.defaults, *arguments.kw_defaults] if value is not None):
        arguments.defaults, arguments.kw_defaults = [], [None] * len(arguments.kwonlyargs)
    node.returns = None
    text = ast.unparse(decorator)
    node.decorator_list = [ast.parse(text if text.startswith("triton.") else "triton." + text, mode="eval").body]
    return ast.unparse(node)


def _constant(node: ast.Assign | ast.AnnAssign) -> tuple[str, str] | None:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    value = node.value
    if not isinstance(target, ast.Name) or value is None:
        return None
    inner = value
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("tl.constexpr", "triton.language.constexpr"):
        inner = value.args[0] if value.args else value
    if not _is_literal(inner):
        return None
    return target.id, f"{target.id} = tl.constexpr({ast.unparse(inner)})"


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _closure(name: str, functions: dict[str, str], constants: dict[str, str]) -> str:
    needed: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in needed:
            needed.add(current)
            words = set(re.findall(r"\w+", functions.get(current, "")))
            waiting += [word for word in words if word in functions or word in constants]
    parts = [constants[word] for word in sorted(needed) if word in constants]
    parts += [functions[word] for word in sorted(needed) if word in functions]
    return _HEADER + "\n\n" + "\n\n\n".join(parts) + "\n"


def interpreted_source(source: str) -> str:
    """The source with everything made equal that the interpreter doesn't look at, line for line.

    That is the module's docstring, and literal `num_warps`, `num_stages`, `num_ctas` and `maxnreg` of launches
    `kernel[grid](...)`: sources that differ in nothing else give the same output, so one run answers for all.

    Raises:
        SyntaxError: the source doesn't parse.
    """
    tree = ast.parse(source)
    lines = source.encode().splitlines(keepends=True)
    spans: list[tuple[ast.expr, bytes]] = []
    if tree.body and isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant):
        spans.append((tree.body[0].value, b"0"))
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
