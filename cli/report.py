"""The page about a campaign: report."""

from pathlib import Path
from typing import Annotated

import typer

from .common import HomeOption, JsonOption, print_json, sync_session


def report(
    campaign: Annotated[str, typer.Argument(help="The campaign's id.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write one self-contained page here.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Tell everything about a campaign: rounds, levers, races, approvals, cost, failures, rollback."""
    from ..core import ConfigurationError

    if html is None and not json:
        raise ConfigurationError(f"Say where the page goes: pawl report {campaign} --html FILE, or ask for --json.")
    with sync_session(home) as open_session:
        found = open_session.report(campaign)
    if html is not None:
        from ..graph.report import render

        try:
            html.write_text(render(found), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"The page can't be written to {html}: {error}. Name another file.") from error
    if json:
        print_json(found.dump())
    else:
        typer.echo(f"Written: {html}. It opens in any browser, without a network.")
