"""What a sandbox costs to start, cold and warm.

    python -P bench/sandbox.py [--runs 60] [--candidates 16] [--no-warm]

Cold: a bare process against each set of layers, one after the other in the same run.

Each run starts `/bin/true` and waits for it, with its output read to the end. "bare" is the same by asyncio's
subprocess alone. A set that this machine doesn't offer has no row, and the goal then doesn't hold.

Warm: kernels are run on the verifier's own test cases, two at a time, each in a process that imports torch and Triton
for it, and each in a child of a warm process. The two take turns, and must give the same bytes.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pawl.core import SandboxUnavailable, derive_seed
from pawl.kernels import ChildLimits, TriMul
from pawl.kernels.warm import KernelProcess, Mode, program
from pawl.safety import Command, Isolation, Limits, Use, default_sandbox, read_result

PROGRAM = ("/bin/true",)
GOALS = {"bubblewrap_adds_ms": 60.0, "warm_gain": 3.0}
AT_ONCE = 2
ALONE = """
import json, sys
from pathlib import Path
from pawl_worker import worker
worker.install("interpret")
found, outputs = worker.answer(json.loads(Path("request").read_bytes()), Path("blob").read_bytes(), Path.cwd())
Path("answer").write_text(json.dumps(found))
Path("outputs").write_bytes(outputs)
"""


async def bare(work: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*PROGRAM, cwd=work, env={}, stdout=pipe, stderr=pipe)
    await process.communicate()
    assert process.returncode == 0


def confined(isolation: Isolation) -> Callable[[Path], Awaitable[None]]:
    sandbox = default_sandbox(isolation)
    layers = ", ".join(sorted(sandbox.layers))
    Console().print(f"{isolation}: {layers}", highlight=False)

    async def run(work: Path) -> None:
        result = await sandbox.run(Command(argv=PROGRAM, work=work, use=Use.SCAFFOLD))
        assert result.status == 0, result

    return run


async def cold(runs: int) -> dict[str, float]:
    """Milliseconds that each way takes at the median, and what a set adds to the bare process."""
    ways: dict[str, Callable[[Path], Awaitable[None]]] = {"bare": bare}
    for isolation in (Isolation.BUBBLEWRAP, Isolation.LANDLOCK):
        try:
            ways[isolation.value] = confined(isolation)
        except SandboxUnavailable as error:
            Console().print(f"{isolation}: {error}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve() / "work"
        work.mkdir()
        for number in range(runs + 3):
            for name, start in ways.items():  # in turn, so that whatever else the machine does meets all alike
                began = time.perf_counter()
                await start(work)
                if number >= 3:
                    seconds[name].append(time.perf_counter() - began)
    figures: dict[str, float] = {"runs": runs}
    table = Table("cold start", "median (ms)", "of ten the slowest (ms)", "added at the median (ms)")
    for name, found in seconds.items():
        median = statistics.median(found) * 1000
        figures[f"{name}_ms"] = round(median, 2)
        added = "" if name == "bare" else f"{median - figures['bare_ms']:.1f}"
        if added:
            figures[f"{name}_adds_ms"] = round(median - figures["bare_ms"], 2)
        table.add_row(name, f"{median:.1f}", f"{statistics.quantiles(found, n=10)[-1] * 1000:.1f}", added)
    Console().print(table)
    return figures


def request_of(number: int) -> tuple[dict[str, Any], bytes]:
    """A kernel on the verifier's test cases: its host code is recorded, and its kernels are run."""
    from safetensors.numpy import save

    problem = TriMul()
    source = problem.render(problem.space.sample(number))
    cases = problem.correctness()
    inputs = [problem.inputs(case, derive_seed(number, "inputs", index)) for index, case in enumerate(cases)]
    blob = save({f"{i}/{name}": array for i, arrays in enumerate(inputs) for name, array in arrays.items()})
    calls = [
        {
            "specs": {name: spec.model_dump(mode="json") for name, spec in problem.specs(case).items()},
            "arguments": problem.arguments(case),
            "again": None,
        }
        for case in cases
    ]
    fixed = {"lazy": False, "execute": True, "configs": {}, "modules": {}}
    return {"kind": "record", "source": source, "calls": calls, **fixed}, blob


async def alone(sandbox: Any, request: dict[str, Any], blob: bytes) -> tuple[dict[str, Any], bytes]:
    """Answer a request in a process of its own, from its imports on."""
    parts = program(Mode.INTERPRET)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve() / "work"
        for name, data in {**parts.bundle, "request": json.dumps(request).encode(), "blob": blob}.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(data)
        command = Command(
            argv=(sys.executable, "-B", "-c", ALONE),
            work=work,
            env=dict(parts.env),
            limits=Limits(wall_seconds=300, cpu_seconds=300, memory_bytes=0, total_memory_bytes=6 << 30),
            use=Use.KERNEL,
        )
        result = await sandbox.run(command)
        assert result.status == 0, result
        answer, outputs = read_result(work, "answer", 1 << 24), read_result(work, "outputs", 1 << 28)
        assert answer is not None
        assert outputs is not None
        return json.loads(answer), outputs


async def all_of(requests: list[Any], answer: Callable[..., Awaitable[Any]]) -> tuple[float, list[Any]]:
    """Answer requests, some at once; returns the seconds that took, and the answers in their order."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(request: dict[str, Any], blob: bytes) -> Any:
        async with slots:
            return await answer(request, blob)

    began = time.perf_counter()
    found = await asyncio.gather(*(one(*request) for request in requests))
    return time.perf_counter() - began, found


async def warm(candidates: int, isolation: Isolation) -> dict[str, float]:
    """Candidates a second, each in a process of its own and each in a child of a warm one; and what starting costs."""
    sandbox = default_sandbox(isolation)
    nothing = ({"kind": "count", "source": "", "jobs": []}, b"")
    process = KernelProcess(sandbox, Mode.INTERPRET, ChildLimits(), AT_ONCE)
    try:
        began = time.perf_counter()
        await process.ask(*nothing)
        start = time.perf_counter() - began
        starts: list[float] = []
        for _ in range(20):
            seconds, _ = await all_of([nothing], process.ask)
            starts.append(seconds * 1000)
        cold_starts = [(await all_of([nothing], lambda *asked: alone(sandbox, *asked)))[0] * 1000 for _ in range(3)]
        requests = [request_of(number) for number in range(candidates)]
        slow = fast = 0.0
        few = max(AT_ONCE, candidates // 4)
        for at in range(0, candidates, few):  # in turn, so that whatever else the machine does meets both alike
            part = requests[at : at + few]
            seconds, expected = await all_of(part, lambda *asked: alone(sandbox, *asked))
            slow += seconds
            seconds, found = await all_of(part, process.ask)
            fast += seconds
            assert found == expected, "a warm process and a fresh one disagree"
    finally:
        await process.close()
    figures = {
        "cold_ready_ms": round(statistics.median(cold_starts), 1),
        "warm_ready_ms": round(statistics.median(starts), 1),
        "warm_process_s": round(start, 2),
        "cold_per_s": round(candidates / slow, 3),
        "warm_per_s": round(candidates / fast, 3),
        "warm_gain": round(slow / fast, 2),
    }
    table = Table("kernel verification", "cold", "warm", title=f"{isolation}, {AT_ONCE} at once")
    table.add_row("an empty request, median (ms)", f"{figures['cold_ready_ms']}", f"{figures['warm_ready_ms']}")
    table.add_row("the warm process itself, once (s)", "", f"{figures['warm_process_s']}")
    table.add_row("candidates a second", f"{figures['cold_per_s']}", f"{figures['warm_per_s']}")
    table.add_row("times as many", "", f"{figures['warm_gain']}")
    Console().print(table)
    return figures


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--no-warm", action="store_true", help="leave out the warm half")
    options = parser.parse_args()
    figures = asyncio.run(cold(options.runs))
    for isolation in () if options.no_warm else (Isolation.BUBBLEWRAP, Isolation.LANDLOCK):
        if f"{isolation}_ms" in figures:
            found = asyncio.run(warm(options.candidates, isolation))
            figures |= {f"{isolation}_{name}": value for name, value in found.items()}
    gains = [value for name, value in figures.items() if name.endswith("_warm_gain")]
    figures["warm_gain"] = min(gains, default=0.0)
    holds = figures.get("bubblewrap_adds_ms", float("inf")) < GOALS["bubblewrap_adds_ms"]
    holds = holds and (options.no_warm or figures["warm_gain"] >= GOALS["warm_gain"])
    print(json.dumps({"bench": "sandbox", "figures": figures, "goals": GOALS, "holds": holds}))


if __name__ == "__main__":
    main()
