"""The tiny experiment, trained, in the eyes of the Python face."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tiny
from fakes import RATE, tone

import accomp


@pytest.fixture(scope="package")
def parts() -> Iterator[None]:
    """The tiny experiment's plugins, as if they were installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accomp.catalog.registry", tiny.registry)
        yield


@pytest.fixture(scope="package")
def made(parts: None, tmp_path_factory: pytest.TempPathFactory) -> tiny.Trained:
    """The tiny experiment, trained: not to be changed, `copy` it."""
    return tiny.trained(tmp_path_factory.mktemp("face"))


@pytest.fixture(scope="package")
def run(made: tiny.Trained) -> accomp.Run:
    return accomp.load_run(made.run, device="cpu")


@pytest.fixture(scope="package")
def sound() -> np.ndarray:
    """A second and a bit, no whole number of frames."""
    return tone(1.0, 5)[: RATE - 77]
