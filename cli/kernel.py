"""`pawl kernel`: verify a kernel, estimate its time, list the problems."""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .common import HomeOption, JsonOption, print_json, table

if TYPE_CHECKING:
    from ..kernels import KernelProblem, Report, Variant, Verifier
    from ..kernels.measure import Accelerator

    Ask = Callable[[str, Variant, KernelProblem], Awaitable[Report]]

app = typer.Typer(
    help="Verify kernels, and estimate their time on an H100. Exits 0 accepted, 1 rejected, 2 bad usage, 3 could not "
    "judge.",
    no_args_is_help=True,
)

REJECTED, BAD_USAGE, COULD_NOT_JUDGE = 1, 2, 3


class Shapes(StrEnum):
    """Which of a problem's shapes."""

    BENCHMARK = "benchmark"
    TESTS = "tests"


FileArgument = Annotated[Path, typer.Argument(help="A Python file that defines custom_kernel(data).")]
ProblemOption = Annotated[
    str,
    typer.Option(
        "--problem", metavar="NAME|PATH", help="A problem's name, or the path of a GPU MODE folder or KernelBench file."
    ),
]
ShapesOption = Annotated[Shapes, typer.Option("--shapes", help="Which shapes to take times at.")]
MeasuredOption = Annotated[
    bool | None,
    typer.Option(
        "--measured/--estimated", show_default=False, help="How times are taken: on the GPU where there is one."
    ),
]
DeepOption = Annotated[
    bool, typer.Option("--deep", help="Grade a part of the output at every shape, not just at the smaller ones.")
]


@app.command()
def problems(json: JsonOption = False) -> None:
    """List the problems in the house, and those that installed packages register."""
    from ..kernels import PROBLEMS
    from ..kernels.loaders import registered_names

    others = [name for name in registered_names() if name not in PROBLEMS]
    if json:
        print_json(sorted([*PROBLEMS, *others]))
        return
    rows = [
        [name, str(len(p.tests())), str(len(p.benchmark())), p.about.split(". ")[0]] for name, p in PROBLEMS.items()
    ]
    rows += [[name, "", "", "registered by a package"] for name in others]
    table("", ["problem", "tests", "benchmark shapes", "what"], rows)


@app.command()
def verify(
    file: FileArgument,
    problem: ProblemOption = "trimul",
    shapes: ShapesOption = Shapes.BENCHMARK,
    measured: MeasuredOption = None,
    deep: DeepOption = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Say whether a kernel is right and honest, and how long it takes: exits 0 accepted, 1 rejected."""
    from ..kernels.summary import summarise

    with _judging():
        asked, variants, reports = _reports(
            file, problem, shapes, home, lambda verifier: _verifying(verifier, deep), measured
        )
        summary = summarise(asked, variants, reports)
    if json:
        print_json(summary)
    else:
        typer.echo(f"{summary.status}: {file}")
        _print_reasons(summary.reasons)
        _print_times(variants, reports)
        for variant, report in zip(variants, reports, strict=True):
            if report.unsampled:
                typer.echo(f"no part of the output was graded at {variant}: {report.unsampled}")
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

    with _judging():
        asked, variants, reports = _reports(file, problem, shapes, home, lambda verifier: verifier.estimate)
        summary = summarise(asked, variants, reports)
    if json:
        launches = {str(variant): report.launches for variant, report in zip(variants, reports, strict=True)}
        print_json({"time": summary.time, "reasons": summary.reasons, "launches": launches})
    else:
        for variant, report in zip(variants, reports, strict=True):
            if report.launches:
                table(str(variant), ["launch", "programs", "us", "waits for", "of which"], _launch_rows(report))
                typer.echo()
        _print_reasons(summary.reasons)
        _print_times(variants, reports)
    if summary.reasons:
        raise typer.Exit(REJECTED)


def _launch_rows(report: "Report") -> list[list[str]]:
    rows = [
        [
            each.kernel,
            f"{each.programs:,}" if each.programs else "",
            f"{each.time_us:,.1f}",
            each.bound,
            ", ".join(f"{name} {value:,.1f}" for name, value in _largest(each.breakdown_us) if value >= 0.05),
        ]
        for each in report.launches
    ]
    idle = (report.time_us or 0.0) - sum(each.time_us for each in report.launches)
    if idle >= 0.05:
        rows.append(["(idle)", "", f"{idle:,.1f}", "host", "the GPU waits for the host to issue what comes next"])
    return rows


def _largest(breakdown: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(breakdown.items(), key=lambda part: -part[1])


def _print_reasons(reasons: Sequence[str]) -> None:
    for reason in reasons:
        typer.echo(f"  {reason}")


def _print_times(variants: "Sequence[Variant]", reports: "Sequence[Report]") -> None:
    if all(report.time_us is None for report in reports):
        return
    rows = [
        [
            str(variant),
            "none" if report.time_us is None else f"{report.time_us:,.0f}",
            "" if report.interval_us is None else "{:,.0f} to {:,.0f}".format(*report.interval_us),
            f"{report.floor_us:,.0f}",
        ]
        for variant, report in zip(variants, reports, strict=True)
    ]
    table(f"time, {reports[0].basis}, {reports[0].device}", ["shape", "us", "interval", "floor"], rows)


def _reports(
    file: Path,
    problem: str,
    shapes: Shapes,
    home: Path | None,
    which: "Callable[[Verifier], Ask]",
    measured: bool | None = False,
) -> "tuple[KernelProblem, list[Variant], list[Report]]":
    """Ask a verifier about a file at each shape; take times on a device, where `measured` asks or none allows it."""
    from ..core import Home, Settings
    from ..kernels import Verifier
    from ..kernels.measured import measured_reports
    from ..safety.sandbox import default_sandbox

    try:
        source = file.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        _refuse(f"{file} can't be read: {error.strerror}. Name a Python file that defines custom_kernel(data).")
    asked = _problem(problem)
    variants = list(asked.benchmark() if shapes is Shapes.BENCHMARK else asked.tests())

    async def run() -> "list[Report]":
        device = _accelerator(measured)
        verifier = Verifier(default_sandbox(), Home(home or Settings().home).verifications)
        try:
            reports = await _each(which(verifier), source, variants, asked)
        finally:
            await verifier.close()
        if device is None:
            return reports
        return await measured_reports(source, variants, reports, asked, default_sandbox(), accelerator=device)

    return asked, variants, asyncio.run(run())


def _verifying(verifier: "Verifier", deep: bool) -> "Ask":
    from ..kernels import part_is_cheap

    async def ask(source: str, variant: "Variant", problem: "KernelProblem") -> "Report":
        return await verifier.verify(source, variant, problem, deep=deep or part_is_cheap(problem, variant))

    return ask


def _accelerator(measured: bool | None) -> "Accelerator | None":
    """The device to take times on; none to estimate them."""
    from ..kernels.measure import open_accelerator, why_no_device

    if measured is False or (measured is None and why_no_device()):
        return None
    return open_accelerator()


def _problem(name: str) -> "KernelProblem":
    from ..core import ConfigurationError, NotFound
    from ..kernels import PROBLEMS, find_problem

    try:
        if name not in PROBLEMS and ("/" in name or Path(name).exists()):
            from ..kernels.loaders import load_problem

            return load_problem(Path(name))
        return find_problem(name)
    except (ConfigurationError, NotFound) as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    typer.echo(f"pawl: {message}", err=True)
    raise typer.Exit(BAD_USAGE)


@contextmanager
def _judging() -> Generator[None]:
    """Exit with 3 where something keeps a verdict from being reached: 1 is for kernels that were judged."""
    from ..core import PawlError

    try:
        yield
    except PawlError as error:
        typer.echo(f"pawl: the kernel could not be judged: {error}", err=True)
        raise typer.Exit(COULD_NOT_JUDGE) from None
    except typer.Exit:
        raise
    except Exception:
        traceback.print_exc()
        typer.echo("pawl: the kernel could not be judged: this is an error of Pawl's own.", err=True)
        raise typer.Exit(COULD_NOT_JUDGE) from None


async def _each(ask: "Ask", source: str, variants: "Sequence[Variant]", problem: "KernelProblem") -> "list[Report]":
    """Ask at every shape, and say on stderr how far it is."""
    done = 0
    with _progress() as show:

        async def one(variant: "Variant") -> "Report":
            nonlocal done
            report = await ask(source, variant, problem)
            done += 1
            show(f"{done} of {len(variants)} shapes: {variant}")
            return report

        show(f"{len(variants)} shapes of {problem.name}")
        first = await one(variants[0])  # what doesn't depend on the shape is worked out once
        return [first, *await asyncio.gather(*map(one, variants[1:]))]


@contextmanager
def _progress() -> Generator[Callable[[str], None]]:
    """One line that changes on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda text: typer.echo(text, err=True)
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False, markup=False).status("") as status:
        yield lambda text: status.update(text)
