"""`pawl train`: what a campaign of a config takes, before any device is rented."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import JsonOption, print_json, say, table

if TYPE_CHECKING:
    from ..nodes.state import CampaignRules
    from ..training.plan import Memory, Plan, Variant

app = typer.Typer(help="Plan training on GPUs.", no_args_is_help=True)

DOES_NOT_FIT = 2


@app.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction]
    """Keep `plan` a subcommand though it is the only one."""


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="A file like those in configs/.")],
    json: JsonOption = False,
) -> None:
    """Print parameters, memory, tokens, GPU-hours and dollars of a config. Exits 2 if it doesn't fit."""
    from ..training.plan import make_plan, read_plan

    read = read_plan(config)
    campaign_rules(config)
    made = make_plan(read)
    if json:
        print_json(_plain(made))
    else:
        _print(made)
    if not made.fits:
        for problem in made.problems:
            typer.echo(f"pawl: doesn't fit: {problem}.", err=True)
        sys.exit(DOES_NOT_FIT)


def campaign_rules(config: Path | None, **given: object) -> "CampaignRules":
    """The rules of a campaign: a config's, with those that are given in their place.

    Args:
        config: a file like those in configs/; none takes the defaults.
        given: fields of the rules.

    Raises:
        ConfigurationError: the config can't be read, or a rule can't be so.
    """
    from pydantic import ValidationError

    from ..core import ConfigurationError
    from ..nodes.state import CampaignRules

    rules: dict[str, object] = {}
    if config is not None:
        from ..training.plan import read_plan

        read = read_plan(config)
        rules = {**read.campaign.model_dump(), "training": read.job}
    try:
        return CampaignRules.model_validate({**rules, **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"campaign.{where}: {first['msg']}. Expected the rules of a campaign.") from error


def _print(made: "Plan") -> None:
    read, variant = made.config, made.variant
    shape, place, assumed = read.model, read.placement, read.assumptions
    turns = "in turn" if place.alternating else f"{read.training} train, {place.serving} serve"
    typer.echo(f"{read.name}. Everything below is estimated; nothing was measured on a GPU.\n")
    say(
        {
            "model": f"{shape.name}: {shape.parameters / 1e9:.1f}B parameters, {shape.active / 1e9:.2f}B active, "
            f"{2 * shape.parameters / 1e9:.0f} GB in bfloat16",
            "devices": f"{place.devices} x {read.device.name}, {turns}, tensor parallel {place.tensor_parallel}",
            "adapter": f"rank {read.train_job.rank}, {variant.adapter_parameters / 1e6:,.1f}M parameters, "
            f"{_size(variant.adapter_bytes)} a version",
            "vLLM slots": f"{variant.slots} (staleness {read.server.staleness} + 2)",
            "cache": f"{variant.cache_tokens:,} tokens a replica, about "
            f"{variant.cache_tokens // assumed.rollout_tokens} rollouts at once",
            "rollouts": f"{read.campaign.learned:,} to learn from, {read.campaign.raced:,} more to compare",
            "tokens": f"{made.tokens / 1e6:,.0f}M sampled, {made.trained_tokens / 1e6:,.0f}M trained on",
            "GPU-hours": f"sampling {made.sampling_hours[0]:,.0f} to {made.sampling_hours[1]:,.0f}, training "
            f"{made.training_hours:,.0f}; paid {made.gpu_hours[0]:,.0f} to {made.gpu_hours[1]:,.0f}",
            "hours": f"{made.wall_hours[0]:,.0f} to {made.wall_hours[1]:,.0f} of sampling, then training; "
            f"{1 - assumed.busy:.0%} of the paid time is for all else",
            "host memory": f"{made.host_bytes / 1e9:.0f} GB, through which the trainer loads",
            "dollars": f"{made.dollars[0]:,.0f} to {made.dollars[1]:,.0f}",
        }
    )
    for title, memory in (("Training, a device", variant.training), ("Serving, a device", variant.serving)):
        typer.echo()
        _memory(title, memory)
    if made.options:
        typer.echo()
        _options([variant, *made.options])
    typer.echo("\nAssumptions")
    say(
        {
            "rollout": f"{assumed.rollout_tokens:,} tokens on average",
            "sampling": f"{assumed.sampling_low:,.0f} to {assumed.sampling_high:,.0f} tokens a second and device",
            "training": f"{assumed.training_share:.0%} of {read.device.peak_tflops:,.0f} TFLOP/s, "
            f"{assumed.flops_a_parameter:g} operations a token and active parameter",
            "busy": f"{assumed.busy:.0%} of the paid time",
            "why": assumed.source,
        }
    )
    for price in read.prices:
        typer.echo(f"${price.usd_per_hour:.2f} an hour: {price.provider}, {price.date}, {price.source}")
    typer.echo("\nNot built yet, or no GPU has run it: docs/h100-training.md")
    for lacking in made.missing:
        typer.echo(f"- {lacking}")
    for note in read.notes:
        typer.echo(f"- {note}")


def _memory(title: str, memory: "Memory") -> None:
    rows = [[name, f"{size / 1e9:.2f}"] for name, size in memory.parts.items()]
    rows.append(["together", f"{memory.used / 1e9:.2f} of {memory.limit / 1e9:.2f}"])
    table(title, ("part", "GB"), rows)


def _options(variants: "list[Variant]") -> None:
    rows = [
        [
            one.name,
            f"{one.adapter_parameters / 1e6:,.1f}M",
            _size(one.adapter_bytes),
            _size(16 * one.adapter_parameters),
            _size(one.slots * one.adapter_bytes),
            f"{one.training.used / 1e9:.1f}",
            f"{one.serving.used / 1e9:.1f}",
            "; ".join(one.problems) or "fits",
        ]
        for one in variants
    ]
    heads = ("adapter", "parameters", "a version", "float32 state", "in slots", "train GB", "serve GB", "")
    table("What more layers cost", heads, rows)


def _plain(made: "Plan") -> dict[str, object]:
    return {
        "name": made.config.name,
        "basis": "estimated",
        "fits": made.fits,
        "problems": list(made.problems),
        "missing": list(made.missing),
        "parameters": made.config.model.parameters,
        "active_parameters": made.config.model.active,
        "bfloat16_bytes": 2 * made.config.model.parameters,
        "variants": [_variant(one) for one in (made.variant, *made.options)],
        "rollouts": {"learned": made.config.campaign.learned, "raced": made.config.campaign.raced},
        "tokens": made.tokens,
        "trained_tokens": made.trained_tokens,
        "sampling_hours": made.sampling_hours,
        "training_hours": made.training_hours,
        "wall_hours": made.wall_hours,
        "host_bytes": made.host_bytes,
        "gpu_hours": made.gpu_hours,
        "dollars": made.dollars,
        "assumptions": made.config.assumptions.model_dump(),
        "prices": [price.model_dump() for price in made.config.prices],
    }


def _variant(one: "Variant") -> dict[str, object]:
    return {
        "name": one.name,
        "adapter_parameters": one.adapter_parameters,
        "adapter_bytes": one.adapter_bytes,
        "slots": one.slots,
        "cache_tokens": one.cache_tokens,
        "training_bytes": {**one.training.parts, "used": one.training.used, "limit": one.training.limit},
        "serving_bytes": {**one.serving.parts, "used": one.serving.used, "limit": one.serving.limit},
        "problems": list(one.problems),
    }


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
