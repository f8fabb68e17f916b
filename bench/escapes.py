"""The escape suite as a table: every attack under every set of layers, and what each came to.

    python -P bench/escapes.py [--only NAME ...] [--ways]

A probe without a sandbox has to get out, or it shows nothing; the last column says whether it does. Goal: no probe gets
out of a sandbox, and none is broken.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from pawl.safety import Sandbox, default_sandbox
from pawl.safety.sandbox.local import why_not

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from escapes import PROBES, SETS, Bare, Outcome, Probe, Verdict, Warmed, can_be_warm, try_probe

BARE = "no sandbox"
COLOURS = {Verdict.HELD: "green", Verdict.ESCAPED: "bold red", Verdict.REFUSED: "yellow", Verdict.BROKEN: "magenta"}


async def measure(probes: list[Probe], sets: dict[str, Sandbox]) -> dict[str, dict[str, Outcome]]:
    """Each probe under each set, one at a time: some of them watch what the machine does."""
    return {
        probe.name: {
            name: await try_probe(probe, sandbox)
            for name, sandbox in sets.items()
            if can_be_warm(probe.module) or not isinstance(sandbox, Warmed)
        }
        for probe in track(probes, "attacking", console=Console(stderr=True), transient=True)
    }


def main() -> None:
    """Attack, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=sorted(PROBES), help="these probes alone")
    parser.add_argument("--ways", action="store_true", help="print what each way of each attack came to")
    given = parser.parse_args()
    probes = [PROBES[name] for name in given.only or sorted(PROBES)]
    missing = {isolation: why_not(isolation) for isolation in SETS}
    sets: dict[str, Sandbox] = {str(each): default_sandbox(each) for each in SETS if not missing[each]}
    sets |= {f"warm {each}": Warmed(each) for each in SETS if not missing[each]}
    outcomes = asyncio.run(measure(probes, {**sets, BARE: Bare()}))

    table = Table("probe", *sets, "works without", title="Attacks on the sandbox", caption=f"user {os.getuid()}")
    for name, found in outcomes.items():
        cells = [f"[{COLOURS[found[each].verdict]}]{found[each].verdict}" if each in found else "" for each in sets]
        table.add_row(name, *cells, "yes" if found[BARE].verdict is Verdict.ESCAPED else "[bold red]no")
    console = Console()
    console.print(table)
    for name, found in outcomes.items():
        for where, outcome in found.items():
            if (outcome.verdict is not Verdict.HELD and where != BARE) or given.ways:
                console.print(f"{name} under {where}: {'; '.join(outcome.facts) or outcome.verdict}", highlight=False)
            for way, said in outcome.ways.items() if given.ways else ():
                console.print(f"    {way}: {said}", highlight=False, markup=False)
    for isolation, reason in missing.items():
        if reason:
            console.print(f"{isolation} was not tried: {reason}")

    figures: dict[str, int] = {"probes": len(probes)}
    for name in sets:
        verdicts = [found[name].verdict for found in outcomes.values() if name in found]
        place = name.replace(" ", "_")
        figures[f"{place}_tried"] = sum(verdict is not Verdict.REFUSED for verdict in verdicts)
        figures[f"{place}_escaped"] = sum(verdict is Verdict.ESCAPED for verdict in verdicts)
        figures[f"{place}_broken"] = sum(verdict is Verdict.BROKEN for verdict in verdicts)
    figures["work_without"] = sum(found[BARE].verdict is Verdict.ESCAPED for found in outcomes.values())
    goals = {f"{warm}{each}_{what}": 0 for each in SETS for warm in ("", "warm_") for what in ("escaped", "broken")}
    goals["work_without"] = len(probes)
    holds = all(figures.get(name) == goal for name, goal in goals.items())
    print(json.dumps({"bench": "escapes", "figures": figures, "goals": goals, "holds": holds}))


if __name__ == "__main__":
    main()
