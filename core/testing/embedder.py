"""Checks of embedders: one row a patch, reproducible results, an error for audio shorter than a patch."""

from __future__ import annotations

from typing import Any

import numpy as np

from accomp.core.testing.common import PluginUnderTest
from accomp.core.testing.results import Findings, Mismatch, expect

SECONDS = 4.0


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of an embedder."""
    embedder = None
    with findings.property("is built by cls(config) and states sample_rate, fingerprint and provenance"):
        built = subject.build()
        rate, texts = built.sample_rate, (built.fingerprint, built.provenance)
        expect(isinstance(rate, int) and rate > 0, f"sample_rate is {rate!r}")
        expect(all(isinstance(text, str) and text for text in texts), f"fingerprint, provenance are {texts!r}")
        embedder = built
    if embedder is None:
        return
    noise, chord = _noise(embedder.sample_rate), _chord(embedder.sample_rate)
    rows = np.zeros((0, 0))
    with findings.property("embed: audio [N] -> [n, D] float32"):
        untouched = noise.copy()
        rows = embedder.embed(noise)
        _expect_rows(rows)
        expect(np.array_equal(noise, untouched), "embed changed its audio")
    with findings.property("equal embedders give equal answers, and have one fingerprint"):
        twin = subject.build()
        expect(twin.fingerprint == embedder.fingerprint, f"{embedder.fingerprint!r}, then {twin.fingerprint!r}")
        expect(np.array_equal(twin.embed(noise.copy()), rows), "the same sound gave other rows")
    with findings.property("more sound gives more rows of the same width, other sound other rows"):
        longer = embedder.embed(np.concatenate([noise, chord]))
        _expect_rows(longer)
        expect(longer.shape[1:] == rows.shape[1:], f"width {longer.shape[1:]}, before {rows.shape[1:]}")
        expect(len(longer) > len(rows), f"{len(rows)} rows of {SECONDS:g} s, {len(longer)} of {2 * SECONDS:g} s")
        expect(not np.allclose(embedder.embed(chord), rows), "noise and a chord gave equal rows")
    with findings.property("digital silence has finite rows"):
        _expect_rows(embedder.embed(np.zeros_like(noise)))
    with findings.property("no sound at all is a ValueError that says so"):
        _expect_value_error(embedder, np.zeros(0, dtype=np.float32))


def _noise(rate: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(SECONDS * rate))).astype(np.float32)


def _chord(rate: int) -> np.ndarray:
    time = np.arange(round(SECONDS * rate)) / rate
    tones = [0.2 * np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.2, 329.6)]
    return np.sum(tones, axis=0).astype(np.float32)


def _expect_rows(rows: Any) -> None:
    expect(isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.size > 0, f"{type(rows).__name__}, not [n, D]")
    expect(rows.dtype == np.float32, f"rows are {rows.dtype}")
    expect(bool(np.isfinite(rows).all()), "rows hold NaN or Inf")


def _expect_value_error(embedder: Any, audio: np.ndarray) -> None:
    try:
        rows = embedder.embed(audio)
    except ValueError as error:
        expect(str(error) != "", "the ValueError has no text")
        return
    raise Mismatch(f"gave {rows!r}")
