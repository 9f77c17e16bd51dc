"""Checks of corpora: disjoint splits in a fixed order, unique ids, existing and readable stems."""

from __future__ import annotations

from accomp.core.audio import io as audio
from accomp.core.errors import DataError
from accomp.core.music.instruments import CLASSES
from accomp.core.testing.common import PluginUnderTest
from accomp.core.testing.results import Findings, Mismatch, expect
from accomp.core.types import Track


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a corpus that exists: its folder is given, or example_config(folder) is offered."""
    corpus = None
    with findings.property("is built by cls(config) and names its splits, once each"):
        built = subject.build()
        splits = built.splits
        expect(isinstance(splits, tuple) and len(splits) > 0, f"splits is {splits!r}")
        expect(all(isinstance(s, str) for s in splits) and len(set(splits)) == len(splits), f"splits is {splits!r}")
        corpus = built
    if corpus is None:
        return
    tracks: dict[str, list[Track]] = {}
    with findings.property("tracks(split) gives Track objects, every split at least one"):
        for split in corpus.splits:
            tracks[split] = list(corpus.tracks(split))
            odd = [track for track in tracks[split] if not isinstance(track, Track)]
            expect(not odd, f"{split} gave {odd[:1]}")
            expect(len(tracks[split]) > 0, f"{split} gave none and raised no DataError")
    every = [track for split in tracks.values() for track in split]
    with findings.property("track ids are unique, within a split and across splits"):
        ids = [track.id for track in every]
        double = sorted({name for name in ids if ids.count(name) > 1})
        expect(not double, f"twice: {', '.join(double[:3])}")
    with findings.property("the order is the same each time"):
        for split, first in tracks.items():
            again = [track.id for track in subject.build().tracks(split)]
            expect(again == [track.id for track in first], f"{split} came in another order")
    with findings.property("every stem can be read, and its instrument is one of the classes"):
        for track in every:
            expect(len(track.stems) > 0, f"track {track.id} has no stems")
            for name, stem in track.stems.items():
                samples, rate = audio.duration(stem.files)
                expect(samples > 0 and rate > 0, f"{stem.path}: {samples} samples at {rate} Hz")
                expect(0 <= stem.instrument < len(CLASSES), f"stem {name} of {track.id}: instrument {stem.instrument}")
    with findings.property("an unknown split is a DataError"):
        try:
            given = list(corpus.tracks("no such split"))
        except DataError:
            return
        raise Mismatch(f"gave {len(given)} tracks")
