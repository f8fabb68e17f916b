# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The report's plots, as SVG that sits inside the page: real text in the page's font, and the page's colours.

Matplotlib draws with placeholder colours, which become CSS variables, so that one drawing serves light, dark and paper.
Each plot is drawn twice, wide and narrow; the page's style shows the one that fits. The same data give the same bytes.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from .data import CampaignReport, RoundReport

WIDE, NARROW = (9.2, 2.9), (3.9, 2.6)
"""Inches."""

_COLOURS = {
    "ink": "#0a0b01",
    "muted": "#0a0b02",
    "rule": "#0a0b03",
    "paper": "#0a0b04",
    "good": "#0a0b05",
    "bad": "#0a0b06",
    "accent": "#0a0b07",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pawl",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": _COLOURS["ink"],
    "axes.edgecolor": _COLOURS["rule"],
    "axes.labelcolor": _COLOURS["muted"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _COLOURS["rule"],
    "grid.linewidth": 0.6,
    "xtick.color": _COLOURS["rule"],
    "xtick.labelcolor": _COLOURS["muted"],
    "ytick.color": "none",
    "ytick.labelcolor": _COLOURS["muted"],
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": _COLOURS["ink"],
    "legend.fontsize": 9.0,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.4,
}


@dataclass(frozen=True)
class Plot:
    """One plot in both widths; the words say what it shows, for those who can't see it."""

    name: str
    title: str
    words: str
    wide: Markup
    narrow: Markup


def plots(report: CampaignReport, unit: str) -> list[Plot]:
    """The plots of a report; none where no round has finished.

    Args:
        report: what to draw.
        unit: label of the axis of grades.
    """
    if not report.rounds:
        return []
    raced = [each for each in report.rounds if each.realised_gain is not None]
    made = [_plot("target", "Target by round", _target_words(report), lambda axes: _target(axes, report.rounds, unit))]
    if raced:
        made.append(
            _plot("gain", "Expected and realised gain by round", _gain_words(raced), lambda axes: _gain(axes, raced))
        )
    return made


def _target(axes: Any, rounds: Sequence[RoundReport], unit: str) -> None:
    live = [(each.row.round, each.row.evaluation) for each in rounds]
    numbers, means = [number for number, _ in live], [evaluation.mean for _, evaluation in live]
    axes.plot(numbers, means, color=_COLOURS["muted"], linewidth=0.9, zorder=2)
    for number, evaluation in live:
        if evaluation.low is not None and evaluation.high is not None:
            axes.vlines(number, evaluation.low, evaluation.high, color=_COLOURS["ink"], linewidth=1.4, zorder=3)
    axes.scatter(numbers, means, s=26, color=_COLOURS["ink"], zorder=4, label="live version, 95 % interval")
    for promoted, colour, label in ((True, "good", "candidate, promoted"), (False, "bad", "candidate, let go")):
        points = [
            (each.row.round + 0.18, each.row.races[0].after)
            for each in rounds
            if each.row.races and each.row.races[0].after is not None and each.row.promoted is promoted
        ]
        if points:
            axes.scatter(
                [x for x, _ in points],
                [y for _, y in points],
                s=34,
                marker="^" if promoted else "v",
                color=_COLOURS[colour] if promoted else "none",
                edgecolors=_COLOURS[colour],
                linewidths=1.3,
                zorder=5,
                label=label,
            )
    axes.set_ylabel(unit)
    _rounds_axis(axes, numbers)


def _gain(axes: Any, rounds: Sequence[RoundReport]) -> None:
    numbers = [each.row.round for each in rounds]
    axes.axhline(0.0, color=_COLOURS["muted"], linewidth=0.9, zorder=1)
    for each in rounds:
        if each.low is not None and each.high is not None:
            axes.vlines(each.row.round + 0.1, each.low, each.high, color=_COLOURS["accent"], linewidth=1.4, zorder=3)
    axes.scatter(
        [each - 0.1 for each in numbers],
        [each.row.decision.expected_gain for each in rounds],
        s=30,
        marker="D",
        color="none",
        edgecolors=_COLOURS["ink"],
        linewidths=1.2,
        zorder=4,
        label="expected (an estimate)",
    )
    axes.scatter(
        [each + 0.1 for each in numbers],
        [each.realised_gain for each in rounds],
        s=30,
        color=_COLOURS["accent"],
        zorder=4,
        label="realised in the target race, 95 % interval",
    )
    axes.set_ylabel("candidate minus live")
    _rounds_axis(axes, numbers)


def _rounds_axis(axes: Any, numbers: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
    axes.margins(y=0.12)
    axes.set_xlabel("round")


def _plot(name: str, title: str, words: str, draw: Callable[[Any], None]) -> Plot:
    wide, narrow = (
        _svg(name + suffix, size, columns, words, draw)
        for suffix, size, columns in (("-wide", WIDE, 3), ("-narrow", NARROW, 1))
    )
    return Plot(name=name, title=title, words=words, wide=wide, narrow=narrow)


def _svg(name: str, size: tuple[float, float], columns: int, words: str, draw: Callable[[Any], None]) -> Markup:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        width, height = size
        rows = 1 if columns > 1 else 3
        figure = Figure(figsize=(width, height + 0.2 * rows), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        figure.legend(loc="outside upper left", ncols=columns)
        made = io.StringIO()
        figure.savefig(made, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inline(made.getvalue(), name, words)


def _inline(svg: str, name: str, words: str) -> Markup:
    """Matplotlib's file as an element of the page: its own ids, the page's colours and font, no references."""
    body = svg[svg.index("<svg") :]
    opening, rest = body.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', opening)
    assert box is not None
    rest = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", rest, flags=re.DOTALL)
    linked = set(re.findall(r"#([\w.-]+)", rest))
    rest = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in linked else "", rest)
    rest = re.sub(r'(xlink:)?href="#([^"]+)"', rf'href="#{name}-\2"', rest)
    rest = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", rest)
    rest = re.sub(r"font-family: [^;\"]*;? ?|stroke-line(cap|join): [^;\"]*;? ?", "", rest)
    for variable, colour in _COLOURS.items():
        rest = rest.replace(colour, f"var(--{variable})")
    label = Markup.escape(words)
    return Markup(f'<svg viewBox="{box[1]}" role="img" aria-label="{label}">{rest.strip()}')  # noqa: S704


def _target_words(report: CampaignReport) -> str:
    first, last = report.rounds[0].row, report.rounds[-1].row
    promoted = sum(1 for each in report.rounds if each.row.promoted)
    return (
        f"The live version's mean grade in each of {len(report.rounds)} rounds, with its 95 % interval, and the "
        f"candidates' means: {first.evaluation.mean:.4g} in round {first.round}, {last.evaluation.mean:.4g} in round "
        f"{last.round}; {promoted} promoted. The table of rounds has the numbers."
    )


def _gain_words(rounds: Sequence[RoundReport]) -> str:
    above = sum(1 for each in rounds if (each.realised_gain or 0.0) > each.row.decision.expected_gain)
    return (
        f"Expected and realised gain in the {len(rounds)} rounds that raced a candidate; in {above} of them it brought "
        "more than was expected. The table of rounds has the numbers."
    )
