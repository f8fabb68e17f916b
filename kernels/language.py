"""The kernel language: what the body of a `@triton.jit` function may say to be run by the verifier.

Triton's interpreter runs a kernel's body as Python, so what a body may name decides what it may do. Here it may name
its own variables, the module's kernels and constants, and the public functions of Triton's language; attributes are a
tensor's own. No import, no underscore, no way to any other object of the process.
"""

import ast
from collections.abc import Iterator, Mapping

LANGUAGE = frozenset(
    """
    abs add arange argmax argmin associative_scan assume atomic_add atomic_and atomic_cas atomic_load
    atomic_max atomic_min atomic_or atomic_poll atomic_store atomic_xchg atomic_xor bfloat16 block_type
    broadcast broadcast_to cast cat cdiv ceil clamp const constexpr cos cumprod cumsum debug_barrier
    device_assert device_print div_rn dot dot_scaled dtype erf exp exp2 expand_dims fdiv flip float16 float32
    float64 float8e4b15 float8e4b8 float8e4nv float8e5 float8e5b16 floor fma full gather histogram
    inline_asm_elementwise int1 int16 int32 int64 int8 interleave join load load_tensor_descriptor log log2
    make_block_ptr make_tensor_descriptor map_elementwise max max_constancy max_contiguous maximum min minimum
    mul multiple_of num_programs permute philox pointer_type program_id rand rand4x randint randint4x randn
    randn4x range ravel reduce reduce_or reshape rsqrt sigmoid sin softmax sort split sqrt sqrt_rn squeeze
    static_assert static_print static_range store store_tensor_descriptor sub sum swizzle2d topk trans uint16
    uint32 uint64 uint8 umulhi unsqueeze view void where xor_sum zeros zeros_like
    """.split()  # noqa: SIM905
)
"""Public names of `triton.language` that compute or name a type."""
MATH = frozenset(
    """
    abs ceil cos div_rn erf exp exp2 fdiv floor fma log log2 max min rsqrt sin sqrt sqrt_rn umulhi
    """.split()  # noqa: SIM905
)
ATTRIBUTES = frozenset(
    """
    T abs advance argmax argmin associative_scan atomic_add atomic_and atomic_cas atomic_load atomic_max
    atomic_min atomic_or atomic_poll atomic_store atomic_xchg atomic_xor block_shape broadcast_to cast cdiv
    ceil cos cumprod cumsum dtype element_ty erf exp exp2 expand_dims flip floor gather histogram is_bf16
    is_block is_floating is_fp16 is_fp32 is_fp8 is_int is_ptr load log log2 logical_and logical_or max min
    numel permute primitive_bitwidth ravel reduce reduce_or reshape rsqrt scalar shape sigmoid sin softmax
    sort split sqrt sqrt_rn store strides sum to trans type value view xor_sum
    """.split()  # noqa: SIM905
)
"""Of tensors, pointers, types, descriptors and constants."""
BUILTINS = frozenset(
    """
    abs bool float int isinstance len list max min print range sum tuple
    """.split()  # noqa: SIM905
)
_TRITON = frozenset({"cdiv", "next_power_of_2"})
_STATEMENTS = (
    ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.If, ast.For, ast.While, ast.Return, ast.Pass, ast.Assert,
    ast.Break, ast.Continue,
)  # fmt: skip
_EXPRESSIONS = (
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Name, ast.Constant, ast.Tuple, ast.List,
    ast.Subscript, ast.Slice, ast.Attribute, ast.Call, ast.keyword, ast.Starred, ast.JoinedStr, ast.FormattedValue,
    ast.ListComp, ast.comprehension, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


def find_modules(tree: ast.Module) -> dict[str, str]:
    """Map each name that the module imports of Triton to what it is, such as `tl` to `triton.language`."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "triton":
                    found[name.asname or "triton"] = name.name if name.asname else "triton"
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "triton":
            for name in node.names:
                found[name.asname or name.name] = f"{node.module}.{name.name}"
    return found


def check_kernel(function: ast.FunctionDef, known: frozenset[str], modules: Mapping[str, str]) -> str | None:
    """What of a kernel isn't of the language, with its line; none if all is.

    Args:
        function: the kernel.
        known: names of the module's own kernels and constants.
        modules: what its imports of Triton are called.
    """
    bound = bound_names(function)
    hidden = sorted(name for name in bound if name.startswith("__") or name in modules)
    if hidden:
        return f"line {function.lineno}: it binds {hidden[0]!r}, which has another meaning already"
    for statement in function.body:
        found = _check(statement, known | bound, modules)
        if found is not None:
            return found
    return None


def bound_names(function: ast.FunctionDef) -> frozenset[str]:
    """A function's parameters and variables."""
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return frozenset(stored | {argument.arg for argument in _parameters(function)})


def free_names(function: ast.FunctionDef) -> frozenset[str]:
    """Names that a function takes from its module."""
    loaded = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return frozenset(loaded - bound_names(function))


def _parameters(function: ast.FunctionDef) -> Iterator[ast.arg]:
    arguments = function.args
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (part for part in (arguments.vararg, arguments.kwarg) if part is not None)


def _check(node: ast.AST, names: frozenset[str], modules: Mapping[str, str]) -> str | None:
    where = f"line {getattr(node, 'lineno', '?')}"
    if not isinstance(node, (*_STATEMENTS, *_EXPRESSIONS)):
        return f"{where}: {type(node).__name__} is no part of the kernel language"
    if isinstance(node, ast.Attribute):
        path = _path(node, modules)
        if path is not None:
            return None if _is_public(path) else f"{where}: {path} is no public function of Triton's language"
        if node.attr not in ATTRIBUTES:
            return f"{where}: a tensor's .{node.attr} is no part of the kernel language"
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.id in modules:
            return None if _is_public(modules[node.id]) else f"{where}: {node.id} can't be used alone"
        if node.id not in names and node.id not in BUILTINS:
            return f"{where}: {node.id!r} is neither of the kernel, nor of the module's kernels and constants"
    if isinstance(node, ast.AnnAssign):
        parts: list[ast.AST] = [node.target, *([node.value] if node.value else [])]
    else:
        parts = list(ast.iter_child_nodes(node))
    for part in parts:
        found = _check(part, names, modules)
        if found is not None:
            return found
    return None


def _path(node: ast.expr, modules: Mapping[str, str]) -> str | None:
    """`triton.language.exp` of `tl.exp`; none where the chain begins at a value."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in modules:
        return None
    return ".".join([modules[node.id], *reversed(parts)])


def _is_public(path: str) -> bool:
    parts = path.split(".")
    if parts[:2] == ["triton", "language"] and len(parts) > 2:
        rest = parts[2:]
        if rest[-2:-1] == ["libdevice"]:
            return (
                rest[:-2] in (["extra"], ["extra", "cuda"], ["math"])
                and rest[-1].isidentifier()
                and (not rest[-1].startswith("_") and rest[-1] != "core")
            )
        if rest[0] == "math" and len(rest) == 2:
            return rest[1] in MATH
        # `tl.float32.to` and its like: an attribute of a public name.
        return rest[0] in LANGUAGE and all(part in ATTRIBUTES for part in rest[1:])
    return parts[0] == "triton" and len(parts) == 2 and parts[1] in _TRITON
