"""From a recorded launch to what is compiled: types, constants, divisibility, as Triton's own launcher derives them."""

import ast
from typing import Any

_TYPES = {
    "float64": ("fp64", 8),
    "float32": ("fp32", 4),
    "float16": ("fp16", 2),
    "bfloat16": ("bf16", 2),
    "float8_e4m3fn": ("fp8e4nv", 1),
    "float8_e5m2": ("fp8e5", 1),
    "int64": ("i64", 8),
    "int32": ("i32", 4),
    "int16": ("i16", 2),
    "int8": ("i8", 1),
    "uint64": ("u64", 8),
    "uint32": ("u32", 4),
    "uint16": ("u16", 2),
    "uint8": ("u8", 1),
    "bool": ("i1", 1),
}
"""Triton's name and the bytes of each type of torch that a kernel can be given."""
_BYTES = {name: size for name, (_, size) in _TYPES.items()}


def _element(dtype: str) -> str:
    if dtype not in _TYPES:
        raise ValueError(f"a tensor of {dtype} can't be given to a kernel")
    return _TYPES[dtype][0]


def compile_job(module: str, launch: dict[str, Any]) -> dict[str, Any]:
    """Derive the compilation of a launch of a kernel of `module`, an extracted module.

    Integers that are 1 become constants, pointers and integers that 16 divides are marked so, unless the kernel
    says `do_not_specialize`.
    """
    general = _unspecialised(module, launch["kernel"])
    signature: dict[str, str] = {}
    constants: dict[str, Any] = dict(launch["constexprs"])
    divisible: list[str] = []
    for name, argument in launch["arguments"].items():
        if "t" in argument:
            signature[name] = "*" + _element(argument["dtype"])
            if argument["offset"] * _BYTES.get(argument["dtype"], 1) % 16 == 0:
                divisible.append(name)
            continue
        if "descriptor" in argument:
            block = ", ".join(map(str, argument["block"]))
            signature[name] = f"tensordesc<{_element(argument['descriptor']['dtype'])}[{block}]>"
            continue
        value = argument.get("value", 0.0)
        if value is None or (isinstance(value, int) and value == 1 and name not in general):
            constants[name] = value
        elif isinstance(value, bool):
            signature[name] = "i1"
        elif isinstance(value, int):
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0 and name not in general:
                divisible.append(name)
        else:
            signature[name] = "fp32"
    return {
        "kernel": launch["kernel"],
        "signature": signature,
        "constexprs": constants,
        "divisible": divisible,
        "options": launch["options"],
    }


def _unspecialised(module: str, kernel: str) -> set[str]:
    for node in ast.parse(module).body:
        if isinstance(node, ast.FunctionDef) and node.name == kernel:
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call):
                    for word in decorator.keywords:
                        if word.arg == "do_not_specialize":
                            return {str(name) for name in ast.literal_eval(word.value)}
    return set()
