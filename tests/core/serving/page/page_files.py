"""The page's files, and its modules run by node."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accomp import core

HERE = Path(__file__).parent
PAGE = Path(next(iter(core.__path__))) / "serving" / "page"

TAP = """registerProcessor('tap', class extends AudioWorkletProcessor {
  process([[x]]) { if (x) this.port.postMessage([currentFrame, x.slice()]); return true } })"""
"""/page/tap.js: with it a test hears what the page hears and plays."""


def tapped_page(folder: Path) -> Path:
    """A copy of the page with tap.js."""
    shutil.copytree(PAGE, folder / "page")
    (folder / "page" / "tap.js").write_text(TAP)
    return folder / "page"


class Node:
    """The page's modules under node, which runs until `close`."""

    def __init__(self, folder: Path):
        if shutil.which("node") is None:
            pytest.skip("needs node, which runs the page's modules without a browser")
        page = folder / "page"
        shutil.copytree(PAGE, page)
        (page / "package.json").write_text('{"type": "module"}')
        self._process = subprocess.Popen(
            ["node", str(HERE / "page_driver.mjs"), str(page)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, driver: str, **order: Any) -> dict[str, Any]:
        """The answer of one of page_driver.mjs's drivers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"driver": driver, **order}) + "\n")
        self._process.stdin.flush()
        answer = dict(json.loads(self._process.stdout.readline()))
        assert "error" not in answer, answer["error"]
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=30)


def packed(sound: np.ndarray) -> str:
    """Samples as page_driver.mjs reads them."""
    return base64.b64encode(sound.astype("<f4").tobytes()).decode()


def unpacked(text: str) -> np.ndarray:
    """Samples as page_driver.mjs writes them."""
    return np.frombuffer(base64.b64decode(text), "<f4")
