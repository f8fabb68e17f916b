"""What the commands share: options, opening a session, printing for people or for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..graph.session import Session
    from ..graph.sync import SyncSession

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder of databases and artefacts; .pawl, or PAWL_HOME.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
AsOption = Annotated[str, typer.Option("--as", help="Your name, for the record.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]


def session(home: Path | None, **settings: object) -> "Session":
    """A session on the home, with settings that an option overrides."""
    from ..core import Settings
    from ..graph.services import LocalFactory
    from ..graph.session import Session

    chosen: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    factory = LocalFactory(progress=lambda text: typer.echo(text, err=True))
    return Session(home, settings=Settings(**chosen), factory=factory)


def sync_session(home: Path | None, **settings: object) -> "SyncSession":
    """The blocking twin of `session`."""
    from ..graph.sync import SyncSession

    return SyncSession(session(home, **settings))


def print_json(value: object) -> None:
    """Print one JSON line."""
    from pydantic_core import to_jsonable_python

    typer.echo(json.dumps(to_jsonable_python(value), sort_keys=True))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; as wide as it needs to be where the output is piped."""
    from rich.console import Console
    from rich.table import Table

    made: Table = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    wide = None if sys.stdout.isatty() else 160
    Console(width=wide, highlight=False, markup=False).print(made)


def say(fields: Mapping[str, str]) -> None:
    """Print named values, one a line, aligned."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        typer.echo(f"{name:<{width}}  {value}")
