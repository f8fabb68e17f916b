"""Where the time goes on the modelled H100: TriMul's seed, and the best schedule that a small search finds.

The search goes from a random schedule to its best neighbour, one field after another, until no field helps, by the
estimate at one benchmark shape. Both are then estimated at all seven, and their launches drawn for the docs.

    python bench/h100_model.py [--starts 2] [--seed 0] [--docs docs]
"""

import argparse
import asyncio
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pawl.kernels import TriMul, Verifier
from pawl.safety.sandbox import default_sandbox

GOALS = {"best_over_seed": 3.0, "seconds_per_estimate": 10.0}
SHAPE = 5
"""Of the benchmark shapes, the one searched and drawn: n 768, batch 1, dim 384."""
PARTS = {
    "tensor": "#4269d0", "arithmetic": "#6cc5b0", "memory": "#efb118", "l2": "#ff725c", "l1": "#a463f2",
    "latency": "#9498a0", "launch": "#38332e",
}  # fmt: skip
NAMES = {"tensor": "tensor cores", "l2": "L2", "l1": "L1"}


async def search(verifier: Verifier, problem: TriMul, seed: int) -> tuple[dict[str, str], float, int]:
    """Descend from one random schedule; return it, its time and how many were estimated."""
    variant = problem.benchmark()[SHAPE]
    known: dict[str, float] = {}

    async def estimated(schedule: dict[str, str]) -> float:
        key = json.dumps(schedule, sort_keys=True)
        if key not in known:
            report = await verifier.estimate(problem.render(schedule), variant)
            known[key] = report.time_us if report.accepted and report.time_us else float("inf")
        return known[key]

    schedule = problem.space.sample(seed)
    best = await estimated(schedule)
    moved = True
    while moved:
        moved = False
        for field in problem.space.fields:
            options = [schedule | {field.name: option} for option in field.options]
            times = await asyncio.gather(*(estimated(option) for option in options))
            least = min(range(len(options)), key=lambda index: times[index])
            if times[least] < best:
                schedule, best, moved = options[least], times[least], True
    return schedule, best, len(known)


def draw(path: Path, title: str, launches: list[Any]) -> None:
    """One bar for each launch, by what it waits for."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "pawl", "font.family": "sans-serif", "font.size": 10}
    with rc_context(style):
        figure = Figure(figsize=(8.4, 1.3 + 0.34 * len(launches)), layout="constrained")
        axes = figure.add_subplot()
        rows = list(range(len(launches)))
        left = [0.0] * len(launches)
        for part, colour in PARTS.items():
            widths = [launch.breakdown_us.get(part, 0.0) for launch in launches]
            if any(widths):
                axes.barh(rows, widths, left=left, height=0.66, color=colour, label=NAMES.get(part, part))
                left = [start + width for start, width in zip(left, widths, strict=True)]
        for row, end in zip(rows, left, strict=True):
            axes.annotate(f"{end:.0f}", (end, row), (4, 0), textcoords="offset points", va="center", color="#555555")
        axes.set_yticks(rows, [launch.kernel for launch in launches])
        axes.invert_yaxis()
        axes.set_xlabel("microseconds, estimated")
        axes.set_title(title, loc="left", fontsize=10.5)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.08)
        figure.legend(loc="outside lower left", frameon=False, ncols=len(PARTS), handlelength=1.2, columnspacing=1.4)
        figure.savefig(path, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))


async def run(starts: int, seed: int, docs: Path) -> dict[str, Any]:
    problem = TriMul()
    with tempfile.TemporaryDirectory() as folder:
        verifier = Verifier(default_sandbox(), Path(folder))
        begun = time.monotonic()
        found = [await search(verifier, problem, seed + start) for start in range(starts)]
        seconds = (time.monotonic() - begun) / sum(count for _, _, count in found)
        schedule, _, _ = min(found, key=lambda each: each[1])
        variants = problem.benchmark()
        sources = {"seed": problem.seed_source(), "best": problem.render(schedule)}
        reports = {
            name: [await verifier.estimate(source, variant) for variant in variants] for name, source in sources.items()
        }
        await verifier.close()
    for name, several in reports.items():
        for report in several:
            if not report.accepted:
                raise SystemExit(f"the {name} can't be estimated: {'; '.join(report.reasons)}")
    times = {name: [report.time_us or math.nan for report in several] for name, several in reports.items()}
    means = {name: math.exp(math.fsum(map(math.log, several)) / len(several)) for name, several in times.items()}
    table = Table("shape", *reports, title="estimated microseconds")
    for index, variant in enumerate(variants):
        words = f"n {variant['n']}, batch {variant['batch']}, dim {variant['dim']}"
        table.add_row(words, *(f"{several[index]:.0f}" for several in times.values()))
    table.add_row("geometric mean", *(f"{mean:.0f}" for mean in means.values()))
    Console().print(table)
    Console().print(schedule)
    for name, several in reports.items():
        title = f"TriMul, {name}: n 768, dim 384, {times[name][SHAPE]:.0f} us in all"
        draw(docs / f"h100-model-{name}.svg", title, list(several[SHAPE].launches))
    return {
        **{f"{name}_us": round(mean, 1) for name, mean in means.items()},
        "best_over_seed": round(means["seed"] / means["best"], 2),
        "seconds_per_estimate": round(seconds, 2),
        "estimated": sum(count for _, _, count in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    given = parser.parse_args()
    figures = asyncio.run(run(given.starts, given.seed, given.docs))
    holds = (
        figures["best_over_seed"] >= GOALS["best_over_seed"]
        and figures["seconds_per_estimate"] <= GOALS["seconds_per_estimate"]
    )
    print(json.dumps({"bench": "h100_model", "figures": figures, "goals": GOALS, "holds": holds}))


if __name__ == "__main__":
    main()
