"""The zoo as a table: every cheat and every honest kernel through the verifier.

    python -P bench/kernel_zoo.py [--only NAME ...] [--naive]

Each is verified with a drawn part of its output graded at the variant's own size, where that can be had. A cheat is
caught if it is rejected or, where that is the right end, accepted at a time no better than the honest kernel's. Goal:
all cheats caught, no honest kernel rejected. With `--naive` every cheat that needs no GPU is also shown to get past its
naive grader. All times are estimated. Each end is told on stderr at once.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pawl.kernels import Precision, Report, Variant, Verifier
from pawl.safety import default_sandbox

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from zoo import Exploit, Outcome, exploits, honest_source, honest_sources
from zoo.proving import Graders, unproved
from zoo.submissions import small_variant

T = TypeVar("T")
AT_ONCE = 2


def outcome(report: Report) -> str:
    """Status, and why it was rejected, or why no part of the output at the variant's size was graded."""
    return " ".join([str(report.status), *report.reasons, *filter(None, [report.unsampled])])[:300]


def why(report: Report) -> str:
    """The outcome, for a table."""
    return escape(outcome(report)[:120])


async def catch(verifier: Verifier, exploit: Exploit) -> tuple[Report, bool]:
    """A cheat's report, and whether it was caught."""
    honest = None
    if exploit.outcome is Outcome.NO_GAIN:
        honest = (await verifier.verify(honest_source(exploit.problem), exploit.variant)).time_us
    report = await verifier.verify(exploit.source, exploit.variant, deep=True)
    return report, exploit.failed_to_gain(report, honest)


def honest_variant(said: dict[str, Any]) -> Variant:
    """What an honest kernel is verified on: its header's parameters over the usual ones."""
    precision = Precision(said["precision"]) if "precision" in said else None
    return small_variant(said["problem"], said.get("parameters"), precision)


async def admit(verifier: Verifier, said: dict[str, Any], text: str) -> Report:
    """An honest kernel's report."""
    return await verifier.verify(text, honest_variant(said), deep=True)


async def in_turn(work: dict[str, Coroutine[Any, Any, T]], told: Callable[[T], str]) -> dict[str, T]:
    """All of it, a few at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, awaited: Coroutine[Any, Any, T]) -> T:
        async with slots:
            start = time.monotonic()
            found = await awaited
            print(f"{name}: {told(found)} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
            return found

    found = await asyncio.gather(*(one(name, awaited) for name, awaited in work.items()))
    return dict(zip(work, found, strict=True))


async def verify_all(given: argparse.Namespace) -> tuple[dict[str, tuple[Report, bool]], dict[str, Report]]:
    """Everything through one verifier without a cache."""

    def chosen(name: str) -> bool:
        return not given.only or name in given.only

    with tempfile.TemporaryDirectory() as folder:
        verifier = Verifier(default_sandbox(), Path(folder))
        try:
            cheats = {each.name: catch(verifier, each) for each in exploits() if chosen(each.name)}
            honest = {name: admit(verifier, *pair) for name, pair in honest_sources().items() if chosen(name)}
            caught = await in_turn(cheats, lambda each: f"{'caught' if each[1] else 'MISSED'}, {outcome(each[0])}")
            return caught, await in_turn(honest, outcome)
        finally:
            await verifier.close()


def prove(cheats: list[Exploit]) -> dict[str, str | None]:
    """For each cheat that can be shown to be one without a GPU, why it isn't, or none."""
    graders = Graders()
    try:
        return {each.name: unproved(graders, each) for each in cheats if each.needs == "cpu"}
    finally:
        graders.close()


def main() -> None:
    """Verify, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="these alone")
    parser.add_argument("--naive", action="store_true", help="show too that every cheat gets past its naive grader")
    given = parser.parse_args()
    start = time.monotonic()
    cheats, honest = asyncio.run(verify_all(given))
    seconds = time.monotonic() - start
    proved = prove([each for each in exploits() if each.name in cheats]) if given.naive else {}

    console = Console()
    table = Table("cheat", "exploit", "outcome", "seen", "estimated us", "naive grader", "why", title="Cheats")
    for exploit in exploits():
        if exploit.name in cheats:
            report, caught = cheats[exploit.name]
            seen = str(report.failure_class or report.status)
            naive = exploit.naive + ("" if proved.get(exploit.name) is None else " [bold red]not fooled")
            when = "" if report.time_us is None else f"{report.time_us:.1f}"
            colour = "green" if caught else "bold red"
            table.add_row(exploit.name, exploit.id, str(exploit.outcome), f"[{colour}]{seen}", when, naive, why(report))
    console.print(table)
    table = Table("honest kernel", "seen", "estimated us", "why", title="Honest kernels")
    for name, report in honest.items():
        when = "" if report.time_us is None else f"{report.time_us:.1f}"
        colour = "green" if report.accepted else "bold red"
        table.add_row(name, f"[{colour}]{report.failure_class or report.status}", when, why(report))
    console.print(table)

    missed = sorted(name for name, (_, caught) in cheats.items() if not caught)
    refused = sorted(name for name, report in honest.items() if not report.accepted)
    figures: dict[str, Any] = {
        "cheats": len(cheats),
        "catch_rate": 1 - len(missed) / len(cheats) if cheats else None,
        "missed": missed,
        "honest": len(honest),
        "false_alarm_rate": len(refused) / len(honest) if honest else None,
        "refused": refused,
        "seconds": round(seconds, 1),
    }
    if given.naive:
        figures["not_fooled"] = sorted(name for name, why in proved.items() if why)
    goals = {"catch_rate": 1.0, "false_alarm_rate": 0.0}
    holds = all(figures[name] == goal for name, goal in goals.items())
    print(json.dumps({"bench": "kernel_zoo", "figures": figures, "goals": goals, "holds": holds}))


if __name__ == "__main__":
    main()
