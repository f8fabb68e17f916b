"""From a recorded launch to what is compiled: types, constants, divisibility, as Triton's own launcher derives them."""

import ast
from typing import Any

_TYPES = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint8": "u8",
    "bool": "i1",
}


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
        if "tensor" in argument:
            signature[name] = "*" + _TYPES.get(str(argument["dtype"]), "i8")
            if argument["offset"] % 16 == 0:
                divisible.append(name)
            continue
        value = argument["value"]
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
