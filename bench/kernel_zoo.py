"""The zoo as a table: every cheat and every honest kernel through the verifier.

    python -P bench/kernel_zoo.py [--only NAME ...] [--naive]

A cheat is caught if it is rejected or, where that is the right end, accepted at a time no better than the honest
kernel's. Goal: all cheats caught, no honest kernel rejected. With `--naive` every cheat that needs no GPU is also shown
to get past its naive grader. All times are estimated.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from pawl.kernels import Precision, Report, Variant, Verifier
from pawl.safety import default_sandbox

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from zoo import Exploit, Outcome, exploits, honest_source, honest_sources
from zoo.proving import Graders, unproved
from zoo.submissions import small_variant


async def catch(verifier: Verifier, cheats: list[Exploit]) -> dict[str, tuple[Report, bool]]:
    """Each cheat's report, and whether it was caught."""
    found: dict[str, tuple[Report, bool]] = {}
    for exploit in track(cheats, "cheats", console=Console(stderr=True), transient=True):
        honest = None
        if exploit.outcome is Outcome.NO_GAIN:
            honest = (await verifier.verify(honest_source(exploit.problem), exploit.variant)).time_us
        report = await verifier.verify(exploit.source, exploit.variant)
        found[exploit.name] = report, exploit.failed_to_gain(report, honest)
    return found


def honest_variant(said: dict[str, Any]) -> Variant:
    """What an honest kernel is verified on: its header's parameters over the usual ones."""
    precision = Precision(said["precision"]) if "precision" in said else None
    return small_variant(said["problem"], said.get("parameters"), precision)


async def admit(verifier: Verifier, only: list[str]) -> dict[str, Report]:
    """Each honest kernel's report."""
    sources = {name: pair for name, pair in honest_sources().items() if not only or name in only}
    return {
        name: await verifier.verify(text, honest_variant(said))
        for name, (said, text) in track(sources.items(), "honest", console=Console(stderr=True), transient=True)
    }


async def verify_all(given: argparse.Namespace) -> tuple[dict[str, tuple[Report, bool]], dict[str, Report]]:
    """Everything through one verifier without a cache."""
    with tempfile.TemporaryDirectory() as folder:
        verifier = Verifier(default_sandbox(), Path(folder))
        try:
            chosen = [each for each in exploits() if not given.only or each.name in given.only]
            return await catch(verifier, chosen), await admit(verifier, given.only)
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
    table = Table("cheat", "exploit", "outcome", "seen", "estimated us", "naive grader", title="Cheats")
    for exploit in exploits():
        if exploit.name in cheats:
            report, caught = cheats[exploit.name]
            seen = str(report.failure_class or report.status)
            naive = exploit.naive + ("" if proved.get(exploit.name) is None else " [bold red]not fooled")
            when = "" if report.time_us is None else f"{report.time_us:.1f}"
            colour = "green" if caught else "bold red"
            table.add_row(exploit.name, exploit.id, str(exploit.outcome), f"[{colour}]{seen}", when, naive)
    console.print(table)
    table = Table("honest kernel", "seen", "estimated us", "why", title="Honest kernels")
    for name, report in honest.items():
        when = "" if report.time_us is None else f"{report.time_us:.1f}"
        colour = "green" if report.accepted else "bold red"
        table.add_row(name, f"[{colour}]{report.failure_class or report.status}", when, " ".join(report.reasons)[:120])
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
