"""A report as one HTML page that needs nothing else: no network, no script, no file beside it.

Much of what it shows was written by a model or by a candidate. Every value that the template prints goes through
`plain` and then through Jinja's escaping, whether the template remembers it or not; only the plots are taken as markup.
The page's own policy forbids scripts and every load, should anything slip through all the same.
"""

import unicodedata
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from ..costs import shown
from .data import CampaignReport
from .plots import plots

LIMIT = 6_000
"""Characters of any one value that are shown; the home keeps the rest."""

NONE = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that show nothing themselves, or move what stands beside them."""


def render(report: CampaignReport) -> str:
    """The page."""
    unit = "grade"
    if report.metric is not None:
        unit = plain(f"{report.metric.name}{f', {report.metric.unit}' if report.metric.unit else ''}", 60)
    return _template().render(r=report, plots=plots(report, unit), unit=unit, css=Markup(_text("page.css")))  # noqa: S704


def plain(value: object, limit: int = LIMIT) -> str:
    """A text as it may be shown: control and direction marks spelt out, and no longer than the limit."""
    text = str(value)
    shown = "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in _HIDDEN
        else f"\\u{ord(character):04x}"
        for character in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown} … ({len(text) - limit:,} more characters)"


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_final
    )
    environment.filters.update(
        cut=plain, short=_short, num=_number, signed=_signed, interval=_interval, usd=shown, when=_when
    )
    return environment.from_string(_text("page.html.j2"))


def _text(name: str) -> str:
    return files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _final(value: object) -> object:
    return value if isinstance(value, Markup) else plain(value)


def _short(digest: str) -> str:
    return plain(digest, 64)[:12]


def _number(value: float | None, sign: str = "") -> str:
    """An amount as it is, a count with separators, a figure with three decimals or as many digits."""
    if value is None:
        return NONE
    if isinstance(value, int):
        return f"{value:{sign},}"
    small = value != 0.0 and abs(value) < 0.001
    shape = f"{sign}.3g" if small or abs(value) >= 1e9 else f"{sign},.0f" if abs(value) >= 1000 else f"{sign}.3f"
    return f"{value:{shape}}".replace("-", _MINUS)


def _signed(value: float | None) -> str:
    return _number(value, "+")


def _interval(ends: Sequence[float | None], sign: str = "") -> str:
    low, high = ends
    return "" if low is None or high is None else f"[{_number(low, sign)}, {_number(high, sign)}]"


def _when(at: str | None) -> str:
    if not at:
        return NONE
    try:
        return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return plain(at, 40)
