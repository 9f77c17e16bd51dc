"""Selection of songs and their splits by a hash of their notes.

The split depends only on the fingerprint of the song: of 20 equal ranges, 15 are train, 2 validation, 3 test. It is
independent of other songs, names and the requested minutes. Songs with the same notes under two names have one
fingerprint, so they are in one split and rendered once. Songs of a group, for example of one groove file, use the hash
of the group and share its split.

Within a split, songs with drums, bass and a chord instrument come first, then the others, then composed ones; ties
are ordered by fingerprint. A limit in minutes takes songs in rounds of twelve (nine train, one validation, two test;
one of each among the first three) until it is reached, and cuts songs so that at least 24 fit, but not under 15 s. The
other splits take the turns of an exhausted one. More minutes keep every song in its split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from attrs import frozen

from accomp.plugins.corpora.mini_slakh.midi import MidiError, Song
from accomp.plugins.corpora.mini_slakh.render import Source

SPLITS = ("train", "validation", "test")
_ROUND = ("test", "train", "validation", *["train"] * 3, "test", *["train"] * 5)
_FEWEST = 24  # smallest number of songs for any limit in minutes
SHORTEST = 15.0
"""Shortest song (s): a training clip and its context."""


@frozen
class Candidate:
    """A readable song with the properties for planning; lower `rank` comes first."""

    source: Source
    fingerprint: str
    seconds: float
    rank: int

    @property
    def split(self) -> str:
        """The split by the group of the source, else by the fingerprint."""
        return split_of(self.source.group or self.fingerprint)


@frozen
class Planned:
    """A candidate with its output folder: `folder` is "<split>/TrackNNNNN"."""

    candidate: Candidate
    folder: str


def shares(songs: int) -> dict[str, int]:
    """Return the number of `songs` of each split, at least one each, if no split is exhausted."""
    return {split: max(math.ceil(songs * _ROUND.count(split) / len(_ROUND)), 1) for split in SPLITS}


def longest_song(longest: float, minutes: float | None) -> float:
    """Return the song length limit (s): `longest`, or less so that at least 24 songs fit in `minutes`."""
    if minutes is None:
        return longest
    return min(longest, max(60 * minutes / _FEWEST, SHORTEST))


def survey(source: Source, song: Song) -> Candidate:
    """Return the candidate of a song. Raises MidiError for a short song or fewer than two parts."""
    if song.seconds < SHORTEST:
        raise MidiError(f"{song.seconds:.1f} s long; expected at least {SHORTEST:g} s")
    if len(song.parts) < 2:
        raise MidiError(f"{len(song.parts)} instrument; expected at least 2")
    rank = 2 if source.annotations is not None else 0 if song.is_band else 1
    return Candidate(source, song.fingerprint, song.seconds, rank)


def split_of(fingerprint: str) -> str:
    """Return the split of a song with this fingerprint (hex)."""
    part = int(fingerprint[:12], 16) * 20 // 16**12
    return "train" if part < 15 else "validation" if part < 17 else "test"


def distinct(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[tuple[Candidate, Candidate]]]:
    """Remove duplicates: return unique songs, the alphabetically first of each, and (dropped, kept) pairs."""
    kept: dict[str, Candidate] = {}
    twice = []
    for candidate in sorted(candidates, key=lambda c: (c.rank, c.source.name)):
        first = kept.setdefault(candidate.fingerprint, candidate)
        if first is not candidate:
            twice.append((candidate, first))
    return list(kept.values()), twice


def choose(candidates: list[Candidate], minutes: float | None) -> list[Planned]:
    """Choose songs to render, in order, up to `minutes` (None: all). The songs must be distinct."""
    waiting: dict[str, list[Candidate]] = {split: [] for split in SPLITS}
    for candidate in sorted(candidates, key=lambda c: (c.rank, c.fingerprint), reverse=True):
        waiting[candidate.split].append(candidate)
    chosen: list[Planned] = []
    seconds = 0.0
    while any(waiting.values()):
        for split in _ROUND:
            if minutes is not None and seconds >= 60 * minutes:
                return chosen
            if waiting[split]:
                candidate = waiting[split].pop()
                seconds += candidate.seconds
                chosen.append(Planned(candidate, f"{split}/Track{len(chosen) + 1:05d}"))
    return chosen
