"""Frechet distance of embeddings of decoded music from those of the originals, over sets of excerpts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import define, field

from accomp.plugin import Embedder
from accomp.plugin.metrics import LEAST, Cache, Pair, frechet_of, jackknife, limit
from accomp.plugin.sound import LISTENING_LUFS, PEAK, loudness, resample
from accomp.plugins.tokenizers.codec.quality.excerpts import Stretch
from accomp.plugins.tokenizers.codec.quality.intervals import Figure

_SEED = 0


@define(eq=False)
class ExcerptEmbedder:
    """Embedder of originals and decoded sounds, at its own sample rate; each original is embedded once.

    Attributes:
        failed: reason -> number of sounds that could not be embedded.
    """

    embedder: Embedder
    failed: dict[str, int] = field(factory=dict)
    _cache: Cache = field(factory=Cache)

    def pair(self, excerpt: Stretch, decoded: np.ndarray, rate: int) -> Pair | None:
        """decoded [N] at `rate` Hz -> points of both; None, counted in `failed`, where there are none.

        Both are cut to the shorter one's length and scaled by one gain, which sets the original to listening level:
        embedders are insensitive to soft sounds, and a mean of many stems is soft. The original is read at the
        embedder's rate, so that frequencies above a codec's own rate count as well.
        """
        own = self.embedder.sample_rate
        got = resample(decoded, rate, own)
        wanted = excerpt.read(own).numpy()
        n = min(len(got), len(wanted))
        gain = listening_gain(wanted, own, [])
        try:
            return self.embedder.embed(gain * got[:n]), self._points(gain * wanted[:n])
        except ValueError as error:
            self.failed[str(error)] = self.failed.get(str(error), 0) + 1
            return None

    def _points(self, sound: np.ndarray) -> np.ndarray:
        return self._cache.array(self.embedder.fingerprint, sound, self.embedder.embed)


def listening_gain(original: np.ndarray, rate: int, others: Sequence[np.ndarray]) -> float:
    """Gain that sets the original [N] to LISTENING_LUFS, or less, so that no peak of any sound is over PEAK.

    1 where the original is too soft or too short to have a loudness, unless a peak is over PEAK.
    """
    peak = max(float(np.abs(one).max(initial=0.0)) for one in [original, *others])
    measured = loudness(original, rate)
    gain = 10 ** ((LISTENING_LUFS - measured) / 20) if np.isfinite(measured) else 1.0
    return float(min(gain, PEAK / max(peak, 1e-9)))


def distances(pairs: Sequence[Pair | None]) -> dict[str, Figure]:
    """`fad` of the embedded excerpts, and `fad_inf` from 8 on (core/evaluation/frechet.py), with jackknife
    intervals.

    Empty with fewer than two excerpts. `fad` of a small set is biased by about c / n; `fad_inf` is its limit for
    infinitely many excerpts, and may be negative.
    """
    heard = {str(i): pair for i, pair in enumerate(pairs) if pair is not None}
    if len(heard) < 2:
        return {}
    ids = list(heard)

    def values(chosen: Sequence[str]) -> dict[str, float]:
        clips = [heard[id] for id in chosen]
        return {"fad": frechet_of(clips), **({"fad_inf": limit(clips)} if len(clips) >= LEAST else {})}

    found = values(ids)
    spans = jackknife(values, found, ids, np.random.default_rng(_SEED))
    return {name: Figure(value, *_ends(spans[name]), len(ids)) for name, value in found.items()}


def _ends(span: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if span is None else span


def vectors(pairs: Sequence[Pair | None]) -> int:
    """Number of points behind `distances`, of either side."""
    return sum(len(pair[0]) for pair in pairs if pair is not None)
