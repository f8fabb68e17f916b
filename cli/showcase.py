"""What a task has to show for a campaign: its best output, in a file."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..graph.session import Session


async def show_best(session: "Session", campaign: str) -> None:
    """Print where the campaign's best output lies and what it is worth, if the task has a way to show it."""
    shown = await session.showcase(campaign)
    if shown is None:
        return
    typer.echo(f"\nBest output: {shown.path}")
    for line in shown.lines:
        typer.echo(f"  {line}")
    home = session.home.root
    typer.echo(
        f"\nInspect:   pawl status {campaign} --home {home}   and   pawl history {campaign} --home {home}\n"
        f"By hand:   pawl run {shown.task} --approve ask --home {home}   then   pawl pending, pawl approve\n"
        f"Roll back: pawl rollback {shown.task}/live --home {home}"
    )
