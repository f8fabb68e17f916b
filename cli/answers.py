"""Answering at the gate: pending, approve, reject, respond."""

from typing import Annotated

import typer

from .common import AsOption, HomeOption, JsonOption, ReasonOption, print_json, sync_session

CampaignArgument = Annotated[str, typer.Argument(help="The campaign's id.")]
RequestArgument = Annotated[str, typer.Argument(help="The request's id, or enough of its beginning.")]


def pending(home: HomeOption = None, json: JsonOption = False) -> None:
    """List what waits for a person."""
    with sync_session(home) as open_session:
        requests = open_session.pending()
    if json:
        print_json(requests)
        return
    if not requests:
        typer.echo("Nothing waits.")
    for request in requests:
        typer.echo(f"{request.campaign}  request {request.id[:8]}  asked {request.asked}\n")
        typer.echo("\n".join(f"    {line}" for line in request.description.splitlines()))
        typer.echo(f"\n    pawl approve {request.campaign} {request.id[:8]} --as NAME --reason TEXT   (or reject)\n")


def approve(
    campaign: CampaignArgument,
    request: RequestArgument,
    name: AsOption,
    reason: ReasonOption,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Approve a promotion; `pawl resume` or a running `pawl work` carries it out."""
    with sync_session(home) as open_session:
        open_session.approve(campaign, request, by=name, reason=reason)
    _done("approved", campaign, request, json)


def reject(
    campaign: CampaignArgument,
    request: RequestArgument,
    name: AsOption,
    reason: ReasonOption,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Reject a promotion: the candidate is discarded, the campaign goes on."""
    with sync_session(home) as open_session:
        open_session.reject(campaign, request, by=name, reason=reason)
    _done("rejected", campaign, request, json)


def respond(
    campaign: CampaignArgument,
    request: RequestArgument,
    name: AsOption,
    message: Annotated[str, typer.Option("--message", help="What the Feedback-Agent should know.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Discard the candidate and tell the Feedback-Agent something."""
    with sync_session(home) as open_session:
        open_session.respond(campaign, request, by=name, message=message)
    _done("responded to", campaign, request, json)


def _done(what: str, campaign: str, request: str, json: bool) -> None:
    if json:
        print_json({"campaign": campaign, "request": request, "answer": what})
    else:
        typer.echo(f"Recorded: {request} {what}. Carry on with: pawl resume {campaign}")
