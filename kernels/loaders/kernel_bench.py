"""KernelBench's problem files: `Model`, `get_inputs()` and `get_init_inputs()`, answered by a submission's `ModelNew`.

    source = read_file(Path("KernelBench/level3/2_ShallowWideMLP.py"))

`data` is `{"init": ..., "inputs": [...], "state": {...}}`: what the constructor takes, what `forward` takes, and the
reference model's parameters and buffers by name. A submission may define `custom_kernel(data)` itself; one that defines
`ModelNew` gets the text of `inside/model_adapter.py` behind it, which builds `ModelNew` once and hands it the state.
The format is that of https://github.com/ScalingIntelligence/KernelBench.
"""

import ast
from importlib.resources import files
from pathlib import Path

from ...core import digest_json
from .source import ForeignSource, Format, Parameters, parse_module, read_text

NEEDS = ("Model", "get_inputs", "get_init_inputs")
"""What tells such a file from others."""


def read_file(path: Path) -> ForeignSource:
    """Read a problem file, and run nothing of it.

    Raises:
        ConfigurationError: it isn't there, doesn't parse or lacks something; the message names it.
    """
    text = read_text(path, "a KernelBench problem")
    constants = constants_of(parse_module(path, text, NEEDS))
    return ForeignSource(
        format=Format.KERNEL_BENCH,
        path=path,
        name=f"{path.stem}@{digest_json(text)[:12]}",
        reference=text,
        modules={},
        tests=(constants,),
        benchmarks=(constants,),
        seed=f"{text.rstrip()}\n\n\nModelNew = Model\n",
        about=(
            "Write class ModelNew(torch.nn.Module), which takes what Model takes, has parameters of the same names and "
            f"shapes, and whose forward gives what Model's gives:\n\n{text.strip()}\n"
        ),
        epilogue=(files("pawl.kernels.loaders") / "inside" / "model_adapter.py").read_text(),
    )


def constants_of(tree: ast.Module) -> Parameters:
    """The integers that a module's top level gives names to, once each: sizes, as such files write them.

    A list of integers counts as several, `name.0`, `name.1` and on.
    """
    found: dict[str, list[int] | int] = {}
    seen: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, _integers(node.value)
            found.pop(name, None)
            if name not in seen and value is not None:
                found[name] = value
            seen.add(name)
    flat: Parameters = {}
    for name, value in found.items():
        flat |= {name: value} if isinstance(value, int) else {f"{name}.{i}": part for i, part in enumerate(value)}
    return flat


def _integers(node: ast.expr) -> int | list[int] | None:
    """An integer, or a list of them; none for anything else."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.List) and node.elts:
        parts = [part.value for part in node.elts if isinstance(part, ast.Constant)]
        whole = [part for part in parts if type(part) is int]
        return whole if len(whole) == len(node.elts) else None
    return None
