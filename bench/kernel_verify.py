"""What verifying a kernel takes: warm processes against a cold one a candidate, one schedule alone, and a look-up.

A verification is whole: the host code recorded, its steps replayed and graded, its kernels compiled and counted at the
variant's size. Warm, one verifier serves all candidates, two at a time; cold, each candidate has processes of its own,
two candidates at a time. Every figure is taken with caches of its own.

    python bench/kernel_verify.py [--candidates 8] [--cold 4]
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pawl.kernels import FailureClass, TriMul, Variant, Verifier, trimul_variant
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


def schedules(count: int, seed: int) -> list[str]:
    """Modules of sampled schedules."""
    return [PROBLEM.render(PROBLEM.space.sample(seed + index)) for index in range(count)]


async def verified(sources: Sequence[str], variant: Variant, cache: Path, *, cold: bool) -> float:
    """Seconds until all sources are judged, two at a time."""
    slots = asyncio.Semaphore(2)
    shared = Verifier(default_sandbox(), cache)

    async def one(index: int, source: str) -> None:
        async with slots:
            verifier = Verifier(default_sandbox(), cache / str(index), workers=1) if cold else shared
            try:
                await verifier.verify(source, variant)
            finally:
                if cold:
                    await verifier.close()

    try:
        if not cold:
            await shared.verify(schedules(1, 10_000)[0], variant)  # starts its processes
        start = time.perf_counter()
        await asyncio.gather(*(one(index, source) for index, source in enumerate(sources)))
        return time.perf_counter() - start
    finally:
        await shared.close()


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


async def measure(candidates: int, cold: int) -> dict[str, float]:
    """All figures."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        warm_s = await verified(schedules(candidates, 1), VARIANT, root / "warm", cold=False)
        cold_s = await verified(schedules(cold, 1), VARIANT, root / "cold", cold=True)
        figures = {"warm_per_s": candidates / warm_s, "cold_per_s": cold / cold_s}
        figures["warm_gain"] = figures["warm_per_s"] / figures["cold_per_s"]
        return figures | await alone(root / "alone")


def main() -> None:
    """Measure, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--cold", type=int, default=4)
    given = parser.parse_args()
    figures = asyncio.run(measure(given.candidates, given.cold))
    table = Table("what", "figure", "goal", title=f"Verifying TriMul schedules at {VARIANT}")
    table.add_row("candidates a second, warm", f"{figures['warm_per_s']:.2f}", "")
    table.add_row("candidates a second, a cold process each", f"{figures['cold_per_s']:.2f}", "")
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
