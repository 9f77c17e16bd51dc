"""The pages in a browser: nothing wider than a phone, folded sections, keyboard, names, dark mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import installed_chromium
from made_runs import make_run

from accomp.core.comparison.entries import Entry, anchor_entries
from accomp.core.comparison.page import Comparison
from accomp.core.comparison.page import page as comparison_page
from accomp.core.report.data import read_run
from accomp.core.report.page import page as run_page

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
SIDEWAYS = "() => document.documentElement.scrollWidth - innerWidth"
UNFOLD = "() => document.querySelectorAll('details').forEach(one => one.open = true)"
CUT_OFF = """() => [...document.querySelectorAll('table, svg, img, audio, pre, h1, h2, h3, p')]
  .filter(one => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.scroll'))
  .map(one => one.outerHTML.slice(0, 80))"""
TALLEST_ROW = "() => Math.max(...[...document.querySelectorAll('tr')].map(row => row.getBoundingClientRect().height))"
GROUND = "() => getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with installed_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of a run and one of a comparison with many entries and long names."""
    folder = tmp_path_factory.mktemp("pages")
    data = read_run(make_run(folder / "run", takes=4, seconds=0.2))
    metrics = data.metrics or {"cells": {}}
    models = [Entry(f"a_model_of_a_long_name_{i}", "offline", metrics["cells"]["model"]["metrics"]) for i in range(9)]
    entries = [*models, *anchor_entries(metrics)]
    found = {"run": run_page(data), "comparison": comparison_page(Comparison("Many", entries))}
    for name, text in found.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in found}


def opened(browser: Any, path: Path, size: dict[str, int], **options: Any) -> Any:
    page = browser.new_context(viewport=size, **options).new_page()
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    return page


@pytest.mark.parametrize("name", ["run", "comparison"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_is_wider_than_the_window(
    browser: Any, files: dict[str, Path], name: str, size: dict[str, int]
) -> None:
    page = opened(browser, files[name], size)
    for _ in ("folded", "open"):
        assert page.evaluate(SIDEWAYS) <= 0
        assert page.evaluate(CUT_OFF) == []
        page.evaluate(UNFOLD)
    assert page.evaluate(TALLEST_ROW) <= (240 if size == PHONE else 130)


def test_sections_are_opened_by_links_and_by_the_keyboard(browser: Any, files: dict[str, Path]) -> None:
    page = opened(browser, files["run"], DESK)
    assert not page.get_by_text("clips scored").first.is_visible()
    page.locator("nav a[href='#scores']").click()
    assert page.locator("details:has(> summary > #scores)").evaluate("one => one.open")
    summary = page.locator("summary:has(> #checks)")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details:has(> summary > #checks)").evaluate("one => one.open")


def test_the_page_follows_the_colour_scheme(browser: Any, files: dict[str, Path]) -> None:
    light, dark = (
        opened(browser, files["run"], DESK, color_scheme=mode).evaluate(GROUND) for mode in ("light", "dark")
    )
    assert light != dark
