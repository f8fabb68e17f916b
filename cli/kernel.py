"""`pawl kernel`: verify a kernel, estimate its time, list the problems."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .common import HomeOption, JsonOption, print_json, table

if TYPE_CHECKING:
    from ..kernels import KernelProblem, Report, Variant, Verifier

app = typer.Typer(help="Verify kernels, and estimate their time on an H100.", no_args_is_help=True)

REJECTED, BAD_USAGE, COULD_NOT_JUDGE = 1, 2, 3
T = TypeVar("T")


class Shapes(StrEnum):
    """Which of a problem's shapes."""

    BENCHMARK = "benchmark"
    TESTS = "tests"


FileArgument = Annotated[Path, typer.Argument(help="A Python file that defines custom_kernel(data).")]
ProblemOption = Annotated[
    str, typer.Option("--problem", help="A problem's name, a GPU MODE folder, or a KernelBench file.")
]
ShapesOption = Annotated[Shapes, typer.Option("--shapes", help="Which shapes to take times at.")]


@app.command()
def problems(json: JsonOption = False) -> None:
    """List the problems in the house."""
    from ..kernels import PROBLEMS

    if json:
        print_json(sorted(PROBLEMS))
        return
    rows = [
        [name, str(len(p.tests())), str(len(p.benchmark())), p.about.split(". ")[0]] for name, p in PROBLEMS.items()
    ]
    table("", ["problem", "tests", "benchmark shapes", "what"], rows)


@app.command()
def verify(
    file: FileArgument,
    problem: ProblemOption = "trimul",
    shapes: ShapesOption = Shapes.BENCHMARK,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Say whether a kernel is right and honest, and how long it takes: exits 0 accepted, 1 rejected."""
    from ..kernels.summary import summarise

    asked = _problem(problem)
    variants = _variants(asked, shapes)
    reports = _judged(file, home, lambda verifier, source: _each(verifier.verify, source, variants, asked))
    summary = summarise(variants, reports)
    if json:
        print_json(summary)
    else:
        typer.echo(f"{summary.status}: {file}")
        for reason in summary.reasons:
            typer.echo(f"  {reason}")
        _print_times(variants, reports)
        if summary.time.geomean_us is not None:
            typer.echo(f"geometric mean {summary.time.geomean_us:,.0f} us, {summary.time.basis}, {summary.time.device}")
    if summary.reasons:
        raise typer.Exit(REJECTED)


@app.command()
def estimate(
    file: FileArgument,
    problem: ProblemOption = "trimul",
    shapes: ShapesOption = Shapes.BENCHMARK,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Estimate the time of each launch and operator, right or wrong, with what it waits for and an interval."""
    from ..kernels.summary import summarise

    asked = _problem(problem)
    variants = _variants(asked, shapes)
    reports = _judged(file, home, lambda verifier, source: _each(verifier.estimate, source, variants, asked))
    summary = summarise(variants, reports)
    if json:
        launches = {str(variant): report.launches for variant, report in zip(variants, reports, strict=True)}
        print_json({"time": summary.time, "reasons": summary.reasons, "launches": launches})
    else:
        for reason in summary.reasons:
            typer.echo(f"  {reason}")
        for variant, report in zip(variants, reports, strict=True):
            rows = [
                [each.kernel, f"{each.programs:,}", f"{each.time_us:,.1f}", each.bound, _parts(each.breakdown_us)]
                for each in report.launches
            ]
            table(str(variant), ["launch", "programs", "us", "waits for", "of which"], rows)
        _print_times(variants, reports)
    if summary.reasons:
        raise typer.Exit(REJECTED)


def _parts(breakdown: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in breakdown.items() if value >= 0.05)


def _print_times(variants: "list[Variant]", reports: "list[Report]") -> None:
    rows = [
        [
            str(variant),
            "" if report.time_us is None else f"{report.time_us:,.0f}",
            "" if report.interval_us is None else "{:,.0f} to {:,.0f}".format(*report.interval_us),
            f"{report.floor_us:,.0f}",
        ]
        for variant, report in zip(variants, reports, strict=True)
    ]
    table(f"time, {reports[0].basis}, {reports[0].device}", ["shape", "us", "interval", "floor"], rows)


def _problem(name: str) -> "KernelProblem":
    from ..core import PawlError
    from ..kernels import find_problem

    try:
        if "/" in name or Path(name).exists():
            from ..kernels.loaders import load_problem

            return load_problem(Path(name))
        return find_problem(name)
    except PawlError as error:
        typer.echo(f"pawl: {error}", err=True)
        raise typer.Exit(BAD_USAGE) from None


def _variants(problem: "KernelProblem", shapes: Shapes) -> "list[Variant]":
    return list(problem.benchmark() if shapes is Shapes.BENCHMARK else problem.tests())


def _judged(file: Path, home: Path | None, work: "Callable[[Verifier, str], Awaitable[T]]") -> T:
    """Run something with a verifier over a file; what keeps it from judging exits 3, a file that can't be read 2."""
    from ..core import Home, PawlError, Settings
    from ..kernels import Verifier
    from ..safety.sandbox import default_sandbox

    try:
        source = file.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        typer.echo(f"pawl: {file} can't be read: {error.strerror}. Name a Python file.", err=True)
        raise typer.Exit(BAD_USAGE) from None

    async def run() -> T:
        verifier = Verifier(default_sandbox(), Home(home or Settings().home).verifications)
        try:
            return await work(verifier, source)
        finally:
            await verifier.close()

    try:
        return asyncio.run(run())
    except PawlError as error:
        typer.echo(f"pawl: the kernel could not be judged: {error}", err=True)
        raise typer.Exit(COULD_NOT_JUDGE) from None


async def _each(
    ask: "Callable[[str, Variant, KernelProblem], Awaitable[Report]]",
    source: str,
    variants: "list[Variant]",
    problem: "KernelProblem",
) -> "list[Report]":
    first = await ask(source, variants[0], problem)  # what doesn't depend on the shape is worked out once
    return [first, *await asyncio.gather(*(ask(source, variant, problem) for variant in variants[1:]))]
