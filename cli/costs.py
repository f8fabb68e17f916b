"""What a campaign cost: cost, and the table by lever that ends a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .common import HomeOption, JsonOption, print_json, sync_session, table

if TYPE_CHECKING:
    from ..core import Usage
    from ..graph.costs import CostReport, Line
    from ..graph.session import Session

UNITS = ("tokens in", "tokens out", "verifications", "training steps", "CPU s", "GPU s")


def cost(
    campaign: Annotated[str, typer.Argument(help="The campaign's id.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Break a campaign's spending down by node, lever, model and round, with the gain per dollar of each lever."""
    with sync_session(home) as open_session:
        found = open_session.costs(campaign)
    if json:
        print_json(found)
        return
    from ..graph.costs import shown

    for name, lines in (
        ("lever", found.levers),
        ("node", found.nodes),
        ("model", found.models),
        ("round", found.rounds),
    ):
        _breakdown(name, lines, found.total)
        typer.echo()
    _gains(found)
    if found.sealed:
        typer.echo()
        _sealed(found)
    if found.budgets:
        typer.echo()
        _budgets(found)
    typer.echo(f"\nPrices: {' and '.join(found.total.prices) or 'none applied yet'}.")
    if found.losses:
        typer.echo(f"Lost, and counted above: {shown(found.lost.nano_dollars)} in {found.losses} events.")
    if found.true_total is not None:
        typer.echo(f"With sealed races at their true cost the total is {shown(found.true_total.nano_dollars)}.")


async def print_levers(session: "Session", campaign: str) -> None:
    """Print what was spent on each lever, and what it brought."""
    found = await session.costs(campaign)
    gains = {each.lever: each for each in found.gains}
    rows: list[list[str]] = []
    for line in found.levers:
        gain = gains.get(line.of)
        brought = [_signed(gain.gain), _signed(gain.per_dollar)] if gain is not None else ["", ""]
        rows.append([line.of, *_amounts(line), *brought])
    rows.append(["total", *_amounts(found.total), "", ""])
    typer.echo()
    table("Cost by lever", ["lever", "dollars", *UNITS, "gain", "gain per dollar"], rows)


def _breakdown(name: str, lines: "Sequence[Line]", total: "Line") -> None:
    table(f"By {name}", [name, "dollars", *UNITS], [[_name(line.of), *_amounts(line)] for line in [*lines, total]])


def _gains(found: "CostReport") -> None:
    from ..graph.costs import shown

    title = (
        "Gain per dollar: the sum over promoted candidates of candidate minus live in the target race"
        f"{f', in {found.unit}' if found.unit else ''}, divided by all dollars metered for the lever"
    )
    table(
        title,
        ["lever", "rounds", "promoted", "gain", "dollars", "gain per dollar"],
        [
            [
                each.lever,
                str(each.pulled),
                str(each.promoted),
                _signed(each.gain),
                shown(each.nano_dollars),
                _signed(each.per_dollar),
            ]
            for each in found.gains
        ],
    )


def _sealed(found: "CostReport") -> None:
    rows: list[list[str]] = []
    for each in found.sealed:
        rows.append([str(each.round), each.race.value, "billed", *_amounts(each.billed)])
        unknown = "not recorded" if found.revealed else "sealed until the reveal"
        rows.append(["", "", "true", *(_amounts(each.true) if each.true else [unknown, *[""] * len(UNITS)])])
    table("Sealed races: the fixed bill, and what they took", ["round", "race", "", "dollars", *UNITS], rows)


def _budgets(found: "CostReport") -> None:
    table(
        "Budgets: what is left",
        ["within", "of", "limit", "spent", "set aside", "left", "used"],
        [
            [
                f"{each.scope.value} {each.of}",
                each.unit,
                each.limit,
                each.settled,
                each.reserved,
                each.left,
                f"{each.used:.0%}",
            ]
            for each in found.budgets
        ],
    )


def _name(of: str) -> str:
    """A name for people: an adapter's is a digest, of which the beginning will do."""
    return of[:12] if len(of) > 40 else of


def _amounts(line: "Line") -> list[str]:
    from ..graph.costs import shown

    return [shown(line.nano_dollars), *_units(line.usage)]


def _units(usage: "Usage") -> list[str]:
    counts = (usage.input_tokens, usage.output_tokens, usage.verifications, usage.training_steps)
    return [*(f"{each:,}" for each in counts), f"{usage.cpu_seconds:.1f}", f"{usage.gpu_seconds:.1f}"]


def _signed(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.4g}"
