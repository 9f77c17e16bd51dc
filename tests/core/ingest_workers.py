"""Encoders that workers build in the tests of ingest, one of which does not survive a certain song."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fakes import RATE, EnergyTokenizer

from accomp.core.data.ingest.encode import PartEncoder


def energy_encoder(fingerprint: str = "loud") -> PartEncoder:
    return PartEncoder(EnergyTokenizer(EnergyTokenizer.Config(fingerprint=fingerprint)))


class Mortal(PartEncoder):
    """Takes its process down with a song of just 2 s."""

    def __call__(self, stems: np.ndarray, members: Sequence[tuple[int, ...]]) -> np.ndarray:
        if stems.shape[1] == 2 * RATE:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(stems, members)


def mortal_encoder() -> PartEncoder:
    return Mortal(EnergyTokenizer())


def counting_encoder(folder: str) -> PartEncoder:
    """Leaves a file in the folder for each time that it is built."""
    Path(folder, f"{os.getpid()}-{os.urandom(4).hex()}").touch()
    return energy_encoder()
