"""What verifying a kernel takes: a warm service against a cold process a candidate, one schedule alone, and a look-up.

A verification is whole: the host code recorded, its steps replayed and graded, its kernels compiled and counted at the
variant's size. Two candidates are under way at a time. Warm, one verifier serves them all, as in a loop: its processes
are there, and a kernel that two candidates have in common is compiled and counted once. Cold, each candidate gets a
Python of its own that imports, starts and warms up all it needs, keeps its answers to itself, and ends: what somebody
has without a service. CPU time is that of all processes, and says more than throughput where a machine is busy.

    python -P bench/kernel_verify.py [--candidates 12] [--cold 4]
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pawl.kernels import FailureClass, TriMul, Verifier, trimul_variant
from pawl.safety.sandbox import default_sandbox

GOALS = {"warm_gain": 3.0, "one_core_s": 10.0}
PROBLEM = TriMul()
VARIANT = trimul_variant(512, mask=True)
HUNGRY = """
import torch
held = []
def custom_kernel(data):
    while True:
        held.append(torch.ones(1 << 26))
"""


ALONE = """
import asyncio, sys
from pathlib import Path
from pawl.kernels import Variant, Verifier
from pawl.safety.sandbox import default_sandbox

async def main():
    verifier = Verifier(default_sandbox(), Path(sys.argv[2]))
    try:
        await verifier.verify(Path(sys.argv[1]).read_text(), Variant.model_validate_json(sys.argv[3]))
    finally:
        await verifier.close()

asyncio.run(main())
"""


def schedules(count: int, seed: int) -> list[str]:
    """Modules of sampled schedules."""
    return [PROBLEM.render(PROBLEM.space.sample(seed + index)) for index in range(count)]


async def warm(sources: Sequence[str], cache: Path) -> tuple[float, float]:
    """Wall-clock and CPU seconds until one verifier has judged all sources, two at a time."""
    slots = asyncio.Semaphore(2)
    verifier = Verifier(default_sandbox(), cache)

    async def one(source: str) -> None:
        async with slots:
            await verifier.verify(source, VARIANT)

    try:
        await verifier.verify(schedules(1, 10_000)[0], VARIANT)  # starts its processes
        start, used = time.perf_counter(), verifier.cpu_seconds + time.process_time()
        await asyncio.gather(*map(one, sources))
        return time.perf_counter() - start, verifier.cpu_seconds + time.process_time() - used
    finally:
        await verifier.close()


async def cold(sources: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall-clock and CPU seconds until a fresh Python each has judged a source, two at a time."""
    slots = asyncio.Semaphore(2)

    async def one(index: int, source: str) -> None:
        own = folder / str(index)
        own.mkdir(parents=True)
        (own / "kernel.py").write_text(source)
        async with slots:
            words = ("-P", "-c", ALONE, str(own / "kernel.py"), str(own / "answers"), VARIANT.model_dump_json())
            process = await asyncio.create_subprocess_exec(sys.executable, *words)
            if await process.wait():
                raise SystemExit(f"a cold process ended with status {process.returncode}")

    start, used = time.perf_counter(), _children()
    await asyncio.gather(*(one(index, source) for index, source in enumerate(sources)))
    return time.perf_counter() - start, _children() - used


def _children() -> float:
    """CPU seconds of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def alone(cache: Path) -> dict[str, float]:
    """One schedule on one core, in a warm process; then the same again."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # before the processes start, which inherit it
    verifier = Verifier(default_sandbox(), cache, workers=1)
    try:
        await verifier.verify(schedules(1, 10_000)[0], VARIANT)
        times = []
        for source in schedules(3, 20_000):
            start = time.perf_counter()
            await verifier.verify(source, VARIANT)
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(20):
            await verifier.verify(source, VARIANT)
        again = (time.perf_counter() - start) / 20
        report = await verifier.verify(HUNGRY, VARIANT)
        held = 1.0 if report.failure_class is FailureClass.MEMORY else 0.0
        return {"one_core_s": max(times), "look_up_ms": 1e3 * again, "memory_bounded": held}
    finally:
        await verifier.close()
        os.sched_setaffinity(0, cores)


async def measure(candidates: int, alone_count: int) -> dict[str, float]:
    """All figures."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        sources = schedules(candidates, 1)
        cold_s, cold_cpu_s = await cold(sources[:alone_count], root / "cold")
        warm_s, warm_cpu_s = await warm(sources, root / "warm")
        figures = {"warm_per_s": candidates / warm_s, "cold_per_s": alone_count / cold_s}
        figures["warm_gain"] = figures["warm_per_s"] / figures["cold_per_s"]
        figures |= {"warm_cpu_s": warm_cpu_s / candidates, "cold_cpu_s": cold_cpu_s / alone_count}
        return figures | await alone(root / "alone")


def main() -> None:
    """Measure, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--cold", type=int, default=4)
    given = parser.parse_args()
    figures = asyncio.run(measure(given.candidates, given.cold))
    table = Table("what", "figure", "goal", title=f"Verifying TriMul schedules at {VARIANT}")
    table.add_row("candidates a second, warm", f"{figures['warm_per_s']:.2f}", "")
    table.add_row("candidates a second, a cold process each", f"{figures['cold_per_s']:.2f}", "")
    table.add_row("CPU seconds of one, warm", f"{figures['warm_cpu_s']:.1f}", "")
    table.add_row("CPU seconds of one, a cold process each", f"{figures['cold_cpu_s']:.1f}", "")
    table.add_row("warm over cold", f"{figures['warm_gain']:.1f}", f">= {GOALS['warm_gain']:g}")
    table.add_row("one schedule on one core, worst of three (s)", f"{figures['one_core_s']:.2f}", "<= 10")
    table.add_row("the same again (ms)", f"{figures['look_up_ms']:.2f}", "")
    table.add_row("one that allocates without end", "rejected" if figures["memory_bounded"] else "not", "rejected")
    Console().print(table)
    holds = (
        figures["warm_gain"] >= GOALS["warm_gain"]
        and figures["one_core_s"] <= GOALS["one_core_s"]
        and figures["memory_bounded"] == 1.0
    )
    print(json.dumps({"bench": "kernel_verify", "figures": figures, "goals": GOALS, "holds": holds}))


if __name__ == "__main__":
    main()
