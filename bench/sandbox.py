"""What a sandbox costs to start: a bare process against each set of layers, one after the other in the same run.

    python -P bench/sandbox.py [--runs 60]

Each run starts `/bin/true` and waits for it, with its output read to the end. "bare" is the same by asyncio's
subprocess alone. A set that this machine doesn't offer has no row, and the goal then doesn't hold.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pawl.core import SandboxUnavailable
from pawl.safety import Command, Isolation, Use, default_sandbox

PROGRAM = ("/bin/true",)
GOALS = {"bubblewrap_adds_ms": 60.0}


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


def main() -> None:
    """Print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    options = parser.parse_args()
    figures = asyncio.run(cold(options.runs))
    holds = figures.get("bubblewrap_adds_ms", float("inf")) < GOALS["bubblewrap_adds_ms"]
    print(json.dumps({"bench": "sandbox", "figures": figures, "goals": GOALS, "holds": holds}))


if __name__ == "__main__":
    main()
