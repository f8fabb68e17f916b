"""What is there: the registered tasks, and what this machine offers."""

from typing import Annotated

import typer

from .common import HomeOption, JsonOption, print_json, table


def tasks(json: JsonOption = False) -> None:
    """List the tasks that are installed."""
    from ..evals.registry import task_names

    names = task_names()
    if json:
        print_json(names)
    else:
        typer.echo("\n".join(names) or "No task is installed.")


def doctor(
    home: HomeOption = None,
    model_url: Annotated[str | None, typer.Option("--model-url", help="A server to ask what it serves.")] = None,
    json: JsonOption = False,
) -> None:
    """Say what is available here: GPU, sandbox layers, model, database."""
    from ..graph.doctor import examine
    from .common import session

    with_settings = session(home, model_url=model_url)
    findings = examine(with_settings.home, with_settings.settings)
    if json:
        print_json(findings)
    else:
        rows = [["yes" if each.present else "no", each.what, each.detail] for each in findings]
        table("", ["here", "what", "detail"], rows)
    if any(each.needed and not each.present for each in findings):
        raise typer.Exit(1)
