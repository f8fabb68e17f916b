"""What knowing the cost costs: how fast processes settle calls against one budget, and what a round pays for it.

Each process draws prepaid leases from one SQLite database, on a real disk with `synchronous=FULL`, and reserves and
settles one call after the other. The budget is a little smaller than what they want, so that they run into its end.

How a round is measured, and with what interval, is told in `telemetry_round.py`.

    python bench/telemetry.py [--processes 8] [--calls 2000] [--task labels] [--pairs 5]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pawl.core import BudgetExhausted, Database, Usage
from pawl.safety.budget import Budget, Charge, LeaseKind, Leases, Limits, Meter, Prepaid
from pawl.safety.budget.accounts import balances
from pawl.safety.budget.prices import Prices, TokenPrice

GOALS = {"settled_per_s": 2_000.0, "overshot_tokens": 0.0, "in_round_percent": 2.0}
MOST = Usage(input_tokens=400, output_tokens=64)
"""Reserved for each call."""
TOOK = Usage(input_tokens=130, output_tokens=20)
"""Settled for it."""
CAMPAIGN = "bench"


def prices() -> Prices:
    """A price for tokens, so that money is counted as well."""
    input_, output = Decimal("0.15"), Decimal("0.6")
    return Prices(TokenPrice(input_, output, input_, output), Decimal("0.04"), None, "bench")


def worker(url: str, calls: int, tokens: int) -> None:
    """Spend until the calls are made or the budget ends; print how many were made, and in which span of time."""
    budget = Budget(tokens=tokens, usd=1_000, day=Limits(usd=1_000))
    charge = Charge(CAMPAIGN, 1, "task_agent", model="m")
    spending = Prepaid(Leases(Database(url)), charge, lambda: budget, prices(), kind=LeaseKind.WORKER)
    print("ready", flush=True)
    sys.stdin.readline()
    start, made = time.monotonic(), 0
    with spending:
        try:
            while made < calls:
                spending.reserve(MOST).settle(TOOK)
                made += 1
        except BudgetExhausted:
            pass
    print(json.dumps([made, start, time.monotonic()]), flush=True)


def settle_figures(folder: Path, processes: int, calls: int) -> dict[str, float]:
    """Calls a second that all processes settle together, and by how much the budget was overshot."""
    url = f"sqlite:///{folder / 'pawl.sqlite'}"
    db = Database(url)
    db.create()
    tokens = int(processes * calls * TOOK.tokens * 0.95)
    arguments = [sys.executable, __file__, "--worker", url, "--calls", str(calls), "--tokens", str(tokens)]
    running = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.communicate(timeout=600)[0]) for process in running]
    made = sum(each[0] for each in told)
    seconds = max(each[2] for each in told) - min(each[1] for each in told)
    with db.read() as connection:
        balance = balances(connection, [f"campaign/{CAMPAIGN}"])[f"campaign/{CAMPAIGN}"]
    meter = Meter(db)
    spent, money = meter.spent(CAMPAIGN), meter.money(CAMPAIGN)
    db.close()
    assert spent.tokens == made * TOOK.tokens == balance.settled.tokens, "every call is counted once"
    assert money == balance.settled.usd == made * prices().cost(TOOK)
    assert balance.reserved.tokens == 0, "what was not spent went back"
    return {
        "processes": processes,
        "settled_calls": made,
        "settled_per_s": made / seconds,
        "budget_tokens": tokens,
        "spent_tokens": spent.tokens,
        "overshot_tokens": max(0, spent.tokens - tokens),
    }


def main() -> None:
    """Measure, print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--calls", type=int, default=2_000, help="of each process")
    parser.add_argument("--task", default="labels", help="whose round is measured")
    parser.add_argument("--pairs", type=int, default=5, help="of rounds, on and off; 0 leaves them out")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.calls, given.tokens)
        return
    with tempfile.TemporaryDirectory() as scratch:
        figures = settle_figures(Path(scratch), given.processes, given.calls)
    table = Table("what", "figure", "goal", title="Telemetry and budgets")
    table.add_row(
        f"calls that {figures['processes']} processes settle a second against one budget",
        f"{figures['settled_per_s']:,.0f}",
        f">= {GOALS['settled_per_s']:,.0f}",
    )
    table.add_row("tokens spent, of the budget's", f"{figures['spent_tokens']:,} of {figures['budget_tokens']:,}", "")
    table.add_row("tokens overshot", f"{figures['overshot_tokens']:,}", "0")
    if given.pairs:
        from telemetry_round import round_figures

        figures |= round_figures(given.task, given.pairs)
        table.add_row(
            f"of a round of {figures['round_s']:.1f} s: telemetry, its exporter, budgets",
            f"{figures['telemetry_ms']:.0f} + {figures['export_ms']:.0f} + {figures['budget_ms']:.0f} ms",
            "",
        )
        table.add_row(
            "share of the round, timed call by call",
            f"{figures['in_round_percent']:.2f} % ({figures['in_round_low']:.2f} to {figures['in_round_high']:.2f})",
            f"<= {GOALS['in_round_percent']:g} %",
        )
        table.add_row(
            f"on over off, wall time of {figures['pairs']} pairs",
            f"{figures['pairs_percent']:+.1f} % ({figures['pairs_low']:+.1f} to {figures['pairs_high']:+.1f})",
            "not all above",
        )
    Console().print(table)
    holds = (
        figures["settled_per_s"] >= GOALS["settled_per_s"]
        and figures["overshot_tokens"] <= GOALS["overshot_tokens"]
        and figures.get("in_round_high", 0.0) <= GOALS["in_round_percent"]
        and figures.get("pairs_low", 0.0) <= GOALS["in_round_percent"]
    )
    print(json.dumps({"bench": "telemetry", "figures": figures, "goals": GOALS, "holds": holds}))


if __name__ == "__main__":
    main()
