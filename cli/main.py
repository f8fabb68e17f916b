"""`pawl`: the commands, in the order in which a newcomer meets them."""

import sys
from typing import Annotated

import typer

from . import answers, campaigns, costs, health, kernel, report, running, serve, train

app = typer.Typer(
    name="pawl",
    help="Agents that improve themselves, scaffold and weights, and can't slip.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(running.run)
app.command()(answers.pending)
app.command()(answers.approve)
app.command()(answers.reject)
app.command()(answers.respond)
app.command()(running.resume)
app.command()(running.work)
app.command()(campaigns.status)
app.command()(campaigns.history)
app.command()(costs.cost)
app.command()(report.report)
app.command()(campaigns.fork)
app.command()(campaigns.rollback)
app.command()(campaigns.stop)
app.command()(campaigns.go)
app.add_typer(kernel.app, name="kernel")
app.add_typer(train.app, name="train")
app.command()(serve.serve)
app.command()(health.tasks)
app.command()(health.doctor)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:  # pyright: ignore[reportUnusedFunction]
    if version:
        from .. import __version__

        typer.echo(f"pawl {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a command; an error that Pawl raises on purpose is printed without a traceback, and exits with 1."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("pawl: interrupted; what was done is kept.", err=True)
        sys.exit(130)
    except Exception as error:
        from ..core.errors import PawlError  # here, so that `--help` need not load the core

        if not isinstance(error, PawlError):
            raise
        typer.echo(f"pawl: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
