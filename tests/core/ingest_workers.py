"""Ingest of a corpus by workers, and encoders that they build, one of which does not survive a certain song."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fakes import RATE, EnergyTokenizer, FolderCorpus

from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.data.ingest.summary import IngestSummary
from accomp.core.spec.runner import RunnerSpec


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


def ingest(corpus: Path, store: Path, runner: RunnerSpec | None = None, build=energy_encoder) -> IngestSummary:
    opened = FolderCorpus(FolderCorpus.Config(str(corpus)))
    return ingest_corpus(opened, energy_encoder(), store, submixes=2, seed=1, runner=runner, build=build)


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}
