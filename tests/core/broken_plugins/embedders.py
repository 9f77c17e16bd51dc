"""Broken plugins: embedder."""

import numpy as np
from attrs import frozen

from broken_plugins.register import breaks


class Loudness:
    """A good embedder: level and steepness of every second."""

    sample_rate = 8000
    fingerprint = "loudness 1"
    provenance = "root mean squares of a second"

    @frozen
    class Config:
        pass

    def __init__(self, config):
        pass

    def embed(self, audio):
        seconds = audio[: len(audio) // 8000 * 8000].reshape(-1, 8000)
        if not len(seconds):
            raise ValueError(f"{len(audio)} samples; a patch has 8000")
        return np.sqrt(np.stack([seconds**2, np.gradient(seconds, axis=1) ** 2], 1).mean(2)).astype(np.float32)


@breaks("embedder", "is built by cls(config) and states sample_rate, fingerprint and provenance: fingerprint, prov")
class Nameless(Loudness):
    fingerprint = ""


@breaks("embedder", "embed: audio [N] -> [n, D] float32: rows are float64")
class DoubleRows(Loudness):
    def embed(self, audio):
        return super().embed(audio).astype(float)


@breaks("embedder", "embed: audio [N] -> [n, D] float32: embed changed")
class ScalesSound(Loudness):
    def embed(self, audio):
        audio *= 0.5
        return super().embed(audio)


@breaks("embedder", "equal embedders give equal answers, and have one fingerprint: 'built ")
class CountedFingerprint(Loudness):
    built = 0

    def __init__(self, config):
        type(self).built += 1
        self.fingerprint = f"built {self.built}"


@breaks("embedder", "more sound gives more rows of the same width, other sound other rows: 4 rows")
class FourRows(Loudness):
    def embed(self, audio):
        return super().embed(audio)[:4]


@breaks("embedder", "more sound gives more rows of the same width, other sound other rows: noise and a chord")
class ToneDeaf(Loudness):
    def embed(self, audio):
        return np.ones_like(super().embed(audio))


@breaks("embedder", "digital silence has finite rows: rows hold NaN")
class Decibels(Loudness):
    def embed(self, audio):
        with np.errstate(divide="ignore"):
            return np.log10(super().embed(audio))


@breaks("embedder", "no sound at all is a ValueError that says so: gave")
class RowOfNothing(Loudness):
    def embed(self, audio):
        return super().embed(audio if len(audio) else np.zeros(8000, dtype=np.float32))
