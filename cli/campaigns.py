"""Looking at campaigns and undoing what they did: status, history, fork, rollback, stop, go."""

from typing import TYPE_CHECKING, Annotated

import typer

from .common import AsOption, HomeOption, JsonOption, ReasonOption, print_json, say, sync_session, table

if TYPE_CHECKING:
    from ..graph.views import CampaignStatus

CampaignArgument = Annotated[str, typer.Argument(help="The campaign's id.")]
ScopeArgument = Annotated[str | None, typer.Argument(help="One campaign; without it, everything in this home.")]


def status(campaign: CampaignArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show where a campaign is, its rounds, what waits, and what it spent."""
    from ..safety.budget import shown

    with sync_session(home) as open_session:
        found = open_session.status(campaign)
    if json:
        print_json(found)
        return
    say(
        {
            "campaign": f"{found.campaign} ({found.task}, seed {found.seed})",
            "status": f"{found.status.value}{f': {found.reason}' if found.reason else ''}",
            "live": found.live[:12] if found.live else "none",
            "spent": f"{shown(found.nano_dollars)}, {found.spent.tokens:,} tokens, "
            f"{found.spent.verifications:,} verifications, {found.spent.training_steps:,} training steps, "
            f"{found.spent.cpu_seconds:.0f} CPU s",
            "pending": ", ".join(request.id[:8] for request in found.pending) or "nothing",
        }
    )
    if found.rounds:
        typer.echo()
        print_rounds(found)


def print_rounds(found: "CampaignStatus") -> None:
    """Print a row a round."""
    from .rounds import HEADINGS, round_row

    table("", HEADINGS, [round_row(row) for row in found.rounds])


def history(
    campaign: Annotated[str | None, typer.Argument(help="The campaign's id; without it, all are listed.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List a campaign's checkpoints, newest first; without one, the campaigns of this home."""
    with sync_session(home) as open_session:
        if campaign is None:
            rows = open_session.campaigns()
            if json:
                print_json(rows)
            else:
                cells = [[row.id, row.task, row.status.value, row.reason or "", row.created] for row in rows]
                table("", ["campaign", "task", "status", "reason", "created"], cells)
            return
        checkpoints = open_session.history(campaign)
        moves = open_session.moves(campaign)
    if json:
        print_json({"checkpoints": checkpoints, "moves": moves})
        return
    table(
        "",
        ["checkpoint", "created", "round", "next"],
        [[each.id, each.created[:19], str(each.round), ", ".join(each.next) or "-"] for each in checkpoints],
    )
    if moves:
        typer.echo()
        table(
            "Moves of the task's channels, oldest first",
            ["at", "channel", "from", "to", "by", "why"],
            [
                [
                    move.at[:19],
                    f"{move.task}/{move.channel.value}",
                    (move.displaced or "none")[:12],
                    move.version[:12],
                    move.actor,
                    move.reason,
                ]
                for move in moves
            ],
        )


def fork(
    campaign: CampaignArgument,
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of `pawl history`, or enough of its beginning.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Start a new campaign from a checkpoint of another; `pawl resume` runs it."""
    with sync_session(home) as open_session:
        name = open_session.fork(campaign, checkpoint)
    if json:
        print_json({"campaign": name})
    else:
        typer.echo(f"Forked as {name}. Run it with: pawl resume {name}")


def rollback(
    channel: Annotated[str | None, typer.Argument(help="TASK/live; needed where several tasks are live.")] = None,
    name: AsOption = "operator",
    reason: ReasonOption = "rolled back by hand",
    version: Annotated[
        str | None,
        typer.Option("--from", help="The version that is to go, or its beginning; needed to undo a rollback."),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Make the version before live again; with --from, undo a rollback, or repeat one without undoing it."""
    from ..core import ConfigurationError
    from ..release import Channel, parse_channel

    with sync_session(home) as open_session:
        if channel is None:
            live = open_session.live_tasks()
            if len(live) != 1:
                found = ", ".join(f"{task}/live" for task in live) or "none"
                raise ConfigurationError(f"Name the channel to roll back; live here: {found}.")
            task = live[0]
        else:
            task, parsed = parse_channel(channel)
            if parsed is not Channel.LIVE:
                raise ConfigurationError(f"{channel} can't be rolled back, only {task}/live can.")
        pointer = open_session.rollback(task, by=name, reason=reason, version=version)
    if json:
        print_json({"channel": f"{task}/live", **pointer.model_dump()})
    else:
        typer.echo(f"{task}/live is {pointer.version[:12]} again (move {pointer.epoch}).")


def stop(
    campaign: ScopeArgument = None,
    name: AsOption = "operator",
    reason: ReasonOption = "stopped by hand",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Pull the kill switch: nothing starts another step until `pawl go`."""
    with sync_session(home) as open_session:
        open_session.stop(by=name, reason=reason, campaign=campaign)
    if json:
        print_json({"stopped": campaign or "all"})
    else:
        typer.echo(
            f"Stopped: {campaign or 'everything in this home'}. `pawl go{f' {campaign}' if campaign else ''}` lifts it."
        )


def go(
    campaign: ScopeArgument = None, name: AsOption = "operator", home: HomeOption = None, json: JsonOption = False
) -> None:
    """Lift the kill switch."""
    with sync_session(home) as open_session:
        lifted = open_session.go(by=name, campaign=campaign)
    if json:
        print_json({"lifted": lifted})
    else:
        typer.echo(
            "Lifted. Go on with a campaign that it stopped: pawl resume CAMPAIGN; `pawl work` takes on the others."
            if lifted
            else "It was not set."
        )
