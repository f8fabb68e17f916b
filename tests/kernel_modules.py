"""Runs and compiles kernel modules in processes of their own, without the verifier."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file, save_file

from pawl.kernels import KernelProblem, Variant
from pawl.kernels.grade import measure

_COMMON = """
import importlib.util, json, sys
import torch
from safetensors.torch import load_file, save_file

def build(plan, tensors):
    if isinstance(plan, dict):
        if set(plan) == {"tensor"}:
            return tensors[plan["tensor"]]
        if set(plan) == {"tuple"}:
            return tuple(build(part, tensors) for part in plan["tuple"])
        return {name: build(part, tensors) for name, part in plan.items()}
    return plan

def load_module(path):
    spec = importlib.util.spec_from_file_location(path.split("/")[-1][:-3], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

folder = sys.argv[1]
request = json.load(open(folder + "/request.json"))
"""

_RUN = (
    _COMMON
    + """
from pawl.kernels.inside import interpret
interpret.install()
tensors = load_file(folder + "/inputs.safetensors")
outputs = {}
for number, job in enumerate(request):
    module = load_module(f"{folder}/module_{number}.py")
    for index, (plan, case) in enumerate(zip(job["plans"], job["cases"])):
        given = {n.split("/", 1)[1]: t.clone() for n, t in tensors.items() if n.startswith(f"{case}/")}
        outputs[f"{number}/{index}"] = module.custom_kernel(build(plan, given)).contiguous()
save_file(outputs, folder + "/outputs.safetensors")
"""
)

_COMPILE = (
    _COMMON
    + """
import inspect
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
launches = []
JITFunction.run = lambda self, *args, grid, warmup=False, **named: launches.append((self, args, named))
types = {torch.float32: "*fp32", torch.float16: "*fp16", torch.int64: "*i64", torch.int32: "*i32"}
for number, job in enumerate(request):
    module = load_module(f"{folder}/module_{number}.py")
    for plan, specs in zip(job["plans"], job["specs"]):
        given = {
            name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
            for name, (shape, dtype) in specs.items()
        }
        module.custom_kernel(build(plan, given))
compiled = set()
for kernel, args, named in launches:
    options = {n: named.pop(n) for n in ("num_warps", "num_stages") if n in named}
    bound = inspect.signature(kernel.fn).bind(*args, **named).arguments
    fixed = {kernel.arg_names[i] for i in kernel.constexprs}
    signature, constants, attributes = {}, {}, {}
    for place, (name, value) in enumerate(bound.items()):
        if name in fixed:
            signature[name] = "constexpr"
            constants[name] = value
        elif isinstance(value, torch.Tensor):
            signature[name] = types[value.dtype]
            attributes[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
    key = (kernel.fn.__module__, kernel.fn.__name__, str(sorted(constants.items())), str(signature))
    if key not in compiled:
        compiled.add(key)
        source = ASTSource(kernel, signature, constants, attributes)
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]
json.dump(len(compiled), open(folder + "/compiled.json", "w"))
"""
)


@dataclass(frozen=True)
class Job:
    """A source, and the variants to run or compile it on."""

    problem: KernelProblem
    source: str
    variants: tuple[Variant, ...]


def run_modules(folder: Path, jobs: list[Job], seed: int) -> list[list[dict]]:
    """Run every source on its variants under the interpreter, and measure what it gives.

    Returns:
        For each job, the case of each variant.
    """
    cases: dict[str, tuple[KernelProblem, Variant]] = {}
    for job in jobs:
        cases |= {_key(variant): (job.problem, variant) for variant in job.variants}
    names = list(cases)
    inputs = [problem.inputs(variant, seed) for problem, variant in cases.values()]
    _prepare(folder, jobs, names)
    save_file(
        {f"{i}/{n}": a for i, arrays in enumerate(inputs) for n, a in arrays.items()}, folder / "inputs.safetensors"
    )
    _start(_RUN, folder, {"TRITON_INTERPRET": "1"})
    outputs = load_file(folder / "outputs.safetensors")
    return [
        [
            measure(job.problem, variant, inputs[names.index(_key(variant))], outputs[f"{number}/{index}"])
            for index, variant in enumerate(job.variants)
        ]
        for number, job in enumerate(jobs)
    ]


def compile_modules(folder: Path, jobs: list[Job]) -> int:
    """Compile for an H100 what every source launches on its variants; returns how many kernels that were."""
    _prepare(folder, jobs, [])
    _start(_COMPILE, folder, {"TRITON_CACHE_DIR": str(folder / "cache")})
    return json.loads((folder / "compiled.json").read_text())


def _key(variant: Variant) -> str:
    return variant.model_dump_json()


def _prepare(folder: Path, jobs: list[Job], names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    request = []
    for number, job in enumerate(jobs):
        (folder / f"module_{number}.py").write_text(job.source)
        specs = [{n: (s.shape, s.dtype) for n, s in job.problem.specs(variant).items()} for variant in job.variants]
        plans = [job.problem.arguments(variant) for variant in job.variants]
        places = [names.index(_key(variant)) for variant in job.variants] if names else []
        request.append({"plans": plans, "specs": specs, "cases": places})
    (folder / "request.json").write_text(json.dumps(request))


def _start(program: str, folder: Path, environment: dict[str, str]) -> None:
    environment |= {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    command = [sys.executable, "-W", "ignore", "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
