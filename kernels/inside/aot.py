# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportMissingParameterType=false
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false
"""Compiles one launch for an H100, on a machine without one, and reads what it takes.

This file runs inside the sandbox, without the rest of Pawl.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource

SHARED_LIMIT = 232_448
"""Bytes of shared memory that a block may have on an H100; only the driver checks it, so this file does."""

TARGET = GPUTarget("cuda", 90, 32)


class _TooMuchShared(Exception):
    pass


def install() -> None:
    """Stop before the slow last step where shared memory is over the limit."""
    assemble = CUDABackend.make_cubin

    def checked(self: Any, src: Any, metadata: dict[str, Any], *rest: Any) -> Any:
        if metadata["shared"] > SHARED_LIMIT:
            raise _TooMuchShared(metadata["shared"])
        return assemble(self, src, metadata, *rest)

    CUDABackend.make_cubin = checked
    triton.knobs.nvidia.dump_ptxas_log = True
    triton.knobs.compilation.always_compile = True  # what is found in Triton's cache comes without ptxas's words


def compile_launch(kernel: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Compile one kernel with its types, constants and options.

    Returns:
        `registers`, `shared` and `spills` (bytes a thread), `warps`, `stages`, `ctas` (blocks of a cluster); counts of
        instructions: `wgmma`, `mma`, `async_copies` and those of them that are `bulk`, by the TMA unit; whether wgmma
        is `serialized`, since its operands or sums don't stay in place. Or `error`, [code, detail].
    """
    signature = {name: request["signature"].get(name, "constexpr") for name in kernel.arg_names}
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in request["divisible"]}
    constants = {name: _constant(value) for name, value in request["constexprs"].items()}
    source = ASTSource(kernel, signature, constants, attributes)
    log = io.StringIO()
    try:
        with contextlib.redirect_stdout(log):
            compiled = triton.compile(source, target=TARGET, options=request["options"])
    except _TooMuchShared as excess:
        return {"error": ["shared-memory", f"{excess.args[0]} bytes of shared memory, at most {SHARED_LIMIT} fit"]}
    except Exception as error:
        return {"error": ["compile-error", f"{type(error).__name__}: {error}"[:800]]}
    ptx = compiled.asm["ptx"]
    used = re.search(r"Used (\d+) registers", log.getvalue())
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log.getvalue())
    return {
        "registers": int(used[1]) if used else 255,
        "spills": int(spilled[1]) + int(spilled[2]) if spilled else 0,
        "shared": compiled.metadata.shared,
        "warps": compiled.metadata.num_warps,
        "stages": compiled.metadata.num_stages,
        "wgmma": ptx.count("wgmma.mma_async"),
        "mma": ptx.count("mma.sync"),
        "async_copies": len(re.findall(r"cp\.async\.(?:ca|cg|bulk)", ptx)),
        "bulk": ptx.count("cp.async.bulk.tensor"),
        "ctas": compiled.metadata.num_ctas,
        "serialized": int("C7510" in log.getvalue() or "C7511" in log.getvalue()),
    }


def _constant(value: Any) -> Any:
    """A constexpr as the recorder writes it down: types of the language and numbers that JSON has no word for."""
    if isinstance(value, list):
        return tuple(_constant(part) for part in value)
    if isinstance(value, dict):
        return float(value["float"]) if "float" in value else tl.dtype(value["type"])
    return value
