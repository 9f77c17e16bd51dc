"""Checks of followers: no detection in silence, detection in music for any block sizes, complete reset."""

from __future__ import annotations

from typing import Any

import numpy as np

from accomp.core.music.annotations import NOTHING, Annotations
from accomp.core.music.labels import TIMELINES
from accomp.core.music.timelines import knows
from accomp.core.testing.common import PluginUnderTest
from accomp.core.testing.results import Findings, expect

RATE = 32_000
SECONDS = 9.0
BEAT = 0.5
"""Seconds: the music of the kit has 120 beats a minute and changes its chord every four."""


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a follower."""
    follower: Any = None
    with findings.property("is built by cls(config, sample_rate) and states follows, fingerprint and provenance"):
        built = subject.build(sample_rate=RATE)
        expect(built.follows in TIMELINES, f"follows is {built.follows!r}; expected one of {', '.join(TIMELINES)}")
        texts = built.fingerprint, built.provenance
        expect(all(isinstance(text, str) and text for text in texts), f"fingerprint, provenance are {texts!r}")
        follower = built
    if follower is None:
        return
    with findings.property("known() is NOTHING at first, and after silence"):
        expect(follower.known() == NOTHING, f"{follower.known()} before any sound")
        follower.push(np.zeros(2 * RATE, np.float32))
        expect(not knows(follower.known(), follower.follows), f"{follower.known()} of silence")
    music, heard = _music(), NOTHING
    with findings.property("begin() forgets; push takes audio [n] float32 and leaves it as it was"):
        untouched = music.copy()
        follower.begin()
        follower.push(music)
        heard = follower.known()
        expect(isinstance(heard, Annotations), f"known() is {type(heard).__name__}, not Annotations")
        expect(np.array_equal(music, untouched), "push changed its audio")
        fresh = subject.build(sample_rate=RATE)
        fresh.push(music)
        expect(fresh.known() == heard, f"{heard} after begin(), {fresh.known()} of a new one")
    with findings.property("known() tells what it follows, once there is a steady beat of chords"):
        expect(knows(heard, follower.follows), f"{heard} after {SECONDS:g} s of music")
    with findings.property("however the sound is cut, the same is known"):
        follower.begin()
        for piece in np.split(music, [0, 1, 700, 700, 5_000, 40_001, 41_000]):
            follower.push(piece)
        expect(follower.known() == heard, f"{follower.known()} in pieces, {heard} at once")


def _music() -> np.ndarray:
    """Synthesise struck chords, and a click on every beat."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    since = time % BEAT
    strokes = np.exp(-since / 0.01) * np.sin(2 * np.pi * 1500 * since)
    chords = np.array([[130.8, 261.6, 329.6, 392.0], [110.0, 220.0, 261.6, 329.6]])[
        (time // (4 * BEAT)).astype(int) % 2
    ]
    tones = sum(np.sin(2 * np.pi * n * chords.T * time).sum(axis=0) / n for n in (1, 2, 3))
    return (0.4 * strokes + 0.08 * tones * np.exp(-since / 0.4)).astype(np.float32)
