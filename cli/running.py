"""Running campaigns: run, resume, work."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import HomeOption, JsonOption, session
from .train import campaign_rules

if TYPE_CHECKING:
    from ..graph.events import Event
    from ..graph.session import Session

UrlOption = Annotated[
    str | None, typer.Option("--model-url", help="OpenAI-compatible server, with /v1; without it, the local model.")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Model to ask for at --model-url.")]
UsdOption = Annotated[float | None, typer.Option("--budget-usd", help="Stop at a boundary after so many dollars.")]
MinutesOption = Annotated[float | None, typer.Option("--budget-minutes", help="Stop at a boundary after so long.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Stay at the gate until somebody answers.")]
TokensOption = Annotated[int | None, typer.Option("--budget-tokens", help="Stop at a boundary after so many tokens.")]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="[SCOPE.]WHAT=N",
        help="Any other limit, also several times: round.usd=0.50, candidate.tokens=90000, day.usd=5, gpu_seconds=600.",
    ),
]


def run(
    task: Annotated[str, typer.Argument(help="A task; `pawl tasks` lists them.")],
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds at the most; 4.")] = None,
    until_each_lever: Annotated[
        bool, typer.Option("--until-each-lever", help="End once each lever has been pulled, within --rounds.")
    ] = False,
    home: HomeOption = None,
    model_url: UrlOption = None,
    model: ModelOption = None,
    approve: Annotated[str, typer.Option("--approve", help="ask: wait for a person; auto: by rule.")] = "ask",
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    budget_usd: UsdOption = None,
    budget_minutes: MinutesOption = None,
    budget_tokens: TokensOption = None,
    budget: LimitOption = None,
    campaign: Annotated[str | None, typer.Option("--campaign", help="Id of the new campaign.")] = None,
    items: Annotated[int | None, typer.Option("--items", min=1, help="Visible items a round; 8.")] = None,
    attempts: Annotated[int | None, typer.Option("--attempts", min=1, help="Rollouts of each item; 4.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Rules and training settings from a file like those in configs/."),
    ] = None,
    sealed_seed: Annotated[
        int | None,
        typer.Option("--sealed-seed", help="Draw sealed items from this number: repeatable, and no longer secret."),
    ] = None,
    wait: WaitOption = False,
    json: JsonOption = False,
) -> None:
    """Start a campaign on a task and run it until it ends or waits at the gate."""
    from ..core import ConfigurationError
    from ..nodes.state import ApprovalMode

    if approve not in tuple(ApprovalMode):
        raise ConfigurationError(f"--approve {approve} is unknown: expected ask or auto.")
    given = {"rounds": rounds, "items": items, "attempts": attempts, "sealed_seed": sealed_seed}
    rules = campaign_rules(
        config,
        until_each_lever=until_each_lever,
        approve=ApprovalMode(approve),
        **{name: value for name, value in given.items() if value is not None},
    )
    limits = _limits(budget_usd, budget_minutes, budget_tokens, budget)

    async def go() -> None:
        async with session(home, model_url=model_url, model_name=model) as open_session:
            name = open_session.create(task, rules=rules, seed=seed, budget=_budget(limits), campaign=campaign)
            await _drive(open_session, open_session.stream(name, wait=wait), json, name)

    asyncio.run(go())


def resume(
    campaign: Annotated[str, typer.Argument(help="The campaign's id.")],
    home: HomeOption = None,
    model_url: UrlOption = None,
    model: ModelOption = None,
    budget_usd: UsdOption = None,
    budget_minutes: MinutesOption = None,
    budget_tokens: TokensOption = None,
    budget: LimitOption = None,
    wait: WaitOption = False,
    json: JsonOption = False,
) -> None:
    """Go on with a campaign: after an answer, a stop, a crash, or a raised budget."""
    limits = _limits(budget_usd, budget_minutes, budget_tokens, budget)

    async def go() -> None:
        async with session(home, model_url=model_url, model_name=model) as open_session:
            raised = _budget(limits, open_session.budget(campaign)) if limits else None
            await _drive(open_session, open_session.stream(campaign, budget=raised, wait=wait), json, campaign)

    asyncio.run(go())


def work(
    once: Annotated[bool, typer.Option("--once", help="End when nothing is due.")] = False,
    home: HomeOption = None,
    model_url: UrlOption = None,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Take on campaigns that are due: answered ones, and those left by a process that died or ended in training."""
    from ..graph.worker import work as wake

    async def go() -> None:
        async with session(home, model_url=model_url, model_name=model) as open_session:
            await _drive(open_session, wake(open_session, once=once), json, None)

    asyncio.run(go())


def _limits(usd: float | None, minutes: float | None, tokens: int | None, others: list[str] | None) -> list[str]:
    """The limits that options name, each as [SCOPE.]WHAT=N."""
    short = {"usd": usd, "seconds": minutes * 60 if minutes is not None else None, "tokens": tokens}
    return [*(f"{what}={value}" for what, value in short.items() if value is not None), *(others or [])]


def _budget(limits: list[str], before: "Budget | None" = None) -> "Budget":
    """A budget with these limits, the others as they were before."""
    from ..safety.budget import Budget

    budget = before or Budget()
    for limit in limits:
        budget = budget.with_limit(limit)
    return budget


async def _drive(open_session: "Session", events: "AsyncGenerator[Event]", json: bool, campaign: str | None) -> None:
    """Show events until there are none; the first signal drains, the second stops at once."""
    from .watch import JsonWatch, Watch, draining

    watch = JsonWatch() if json else Watch(open_session)
    with watch:
        async with draining(open_session, watch):
            async for event in events:
                watch.show(event)
        if campaign is not None:
            await watch.conclude(open_session, campaign)


if TYPE_CHECKING:
    from ..safety.budget import Budget
