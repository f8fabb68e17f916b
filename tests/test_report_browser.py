"""The page in a real headless Chromium without a network: it loads, is seen, and fits phone, night and paper."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pawl.evals.labels import LabelsTask
from pawl.graph.report import gather, render
from pawl.release import Status
from pawl.safety.budget import Budget

from .chromium import HOW_TO_GET_ONE, Chromium, Page, find_chromium
from .report_fixtures import CAMPAIGN, HOSTILE, plant

pytestmark = pytest.mark.skipif(find_chromium() is None, reason=HOW_TO_GET_ONE)

DESKTOP, PHONE, PAPER = 1100, 390, 718
"""Widths in CSS pixels; paper is A4 within margins of 1 cm."""
CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3, level AA."""

_CONTRASTS = """
(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), svg = e.namespaceURI.endsWith('svg');
    const [a, b] = [light(parse(svg ? style.fill : style.color)), light(behind(e))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), e.tagName, e.textContent.trim().slice(0, 30)]);
  }
  return found.sort((x, y) => x[0] - y[0])[0];
})()
"""

_HIDDEN_SECTIONS = """
[...document.querySelectorAll('main > section')]
  .filter(e => e.getBoundingClientRect().height < 40 || e.getBoundingClientRect().width < 200).map(e => e.textContent)
"""

_PLOTS = """
[...document.querySelectorAll('figure svg')].map(e => e.getBoundingClientRect())
  .filter(box => box.width > 0).map(box => [box.width, box.height])
"""

_SMALLEST_PLOT_TEXT = """
Math.min(...[...document.querySelectorAll('figure svg text')].map(e => e.getBoundingClientRect())
  .map(box => Math.min(box.width || 99, box.height || 99)).filter(size => size < 99))
"""

_TABLES = """
[...document.querySelectorAll('table')].map(e => ({
  caption: e.caption && e.caption.textContent.trim(),
  font: parseFloat(getComputedStyle(e.querySelector('td, th')).fontSize),
  reach: e.parentElement.scrollWidth >= e.offsetWidth && getComputedStyle(e.parentElement).overflowX,
  torn: [...e.querySelectorAll('td, th')]
    .filter(c => c.getClientRects().length && c.offsetWidth < 20 && c.textContent.trim()).length,
}))
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


@pytest.fixture(scope="module", params=["finished", "hostile", "empty"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    options: dict[str, Any] = {
        "finished": {"budget": Budget(usd=2.0)},
        "hostile": {"rounds": 2, "text": HOSTILE, "waiting": True, "status": Status.FAILED},
        "empty": {"rounds": 0, "reveal": False, "status": Status.RUNNING},
    }[request.param]
    store = plant(folder / "home", **options)
    page = folder / f"{request.param}.html"
    page.write_text(render(gather(store, CAMPAIGN, LabelsTask.metric)), encoding="utf-8")
    store.close()
    return page


def check_shown(page: Page, file: Path) -> None:
    assert page.complaints() == []
    assert page.requests() == [file.as_uri()]
    assert page.evaluate("document.title").endswith("campaign report")
    assert page.evaluate(_HIDDEN_SECTIONS) == []


def test_it_opens_without_a_network_and_asks_for_nothing(browser: Chromium, file: Path, tmp_path: Path):
    page = browser.open(file, width=DESKTOP)
    check_shown(page, file)
    plots = page.evaluate(_PLOTS)
    assert len(plots) == (0 if file.stem == "empty" else 2)
    assert all(width > 600 and height > 120 for width, height in plots)
    assert colours(page.screenshot(tmp_path / "page.png")) > 20


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_by_day_and_by_night(browser: Chromium, file: Path, dark: bool):
    page = browser.open(file, width=PHONE, height=800, dark=dark)
    check_shown(page, file)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    assert page.evaluate("innerWidth") == PHONE
    plots = page.evaluate(_PLOTS)
    assert all(300 < width <= PHONE for width, _ in plots)
    if plots:
        assert page.evaluate(_SMALLEST_PLOT_TEXT) >= 5
    for table in page.evaluate(_TABLES):
        assert table["caption"]
        assert table["font"] >= 12
        assert table["reach"] == "auto"
        assert table["torn"] == 0
    least, where, text = page.evaluate(_CONTRASTS)
    assert least >= CONTRAST, (where, text)
    luminance = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (luminance < 60) is dark


def test_it_prints_with_everything_in_it(browser: Chromium, file: Path):
    page = browser.open(file, width=PAPER, dark=True, media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.evaluate(
            "[...document.querySelectorAll('details')].filter(e => e.getBoundingClientRect().height < 30).length"
        )
        == 0
    )
    assert len(page.call("Page.printToPDF", printBackground=True)["data"]) > 10_000


def test_a_keyboard_reaches_every_table_that_scrolls(browser: Chromium, file: Path):
    page = browser.open(file, width=PHONE)
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0 && "
        "document.getElementById(e.getAttribute('aria-labelledby')))"
    )


def colours(picture: Path) -> int:
    """How many colours a picture has; a blank one has one."""
    from PIL import Image

    with Image.open(picture) as image:
        return len(image.convert("RGB").getcolors(1 << 24) or [])
