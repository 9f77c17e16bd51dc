"""An installed Chromium, driven by playwright, where ACCOMP_BROWSER is set (make test-page)."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def installed_chromium(*flags: str) -> Iterator[Any]:
    """Start the browser; skip the test where it is not wanted or not installed."""
    if not os.environ.get("ACCOMP_BROWSER"):
        pytest.skip("a browser needs a machine of its own: make test-page")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives a browser")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs an installed Chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, headless=True, args=["--no-sandbox", *flags])
        yield browser
        browser.close()
