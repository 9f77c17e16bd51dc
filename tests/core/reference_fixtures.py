"""Arrays that the reference code of the streaming paper made; tests that need them skip where they are absent."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(os.environ.get("ACCOMP_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))


def fixture_path(name: str) -> Path:
    """Where a fixture lies; skips the test where it does not."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"no {name} in {FOLDER}; set ACCOMP_FIXTURES to the folder of the reference fixtures")
    return path


def fixture(name: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name."""
    return dict(np.load(fixture_path(name)))
