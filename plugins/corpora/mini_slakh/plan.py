"""Which song goes where, and how many: fixed by each song's own notes, so that nothing else can move it.

(Songs of a group, for instance of one groove, have the group's hash decide instead: all are on one side.)

The split is decided by the song's fingerprint alone: of 20 equal ranges, 15 train, 2 validate, 3 test. Neither other
songs, nor names, nor the minutes asked for change it, and a song under two names has one fingerprint, so it can only
ever be on one side (and is rendered once).

Within a split, songs with drums, bass and a chord instrument come first, then the others, then composed ones; among
equals the fingerprint orders them. A limit in minutes takes songs in rounds of twelve (nine train, one validates, two
test; one of each among the first three) until it is reached, and cuts songs so that at least 24 fit, though never under
15 s. A split that runs out gives its turns to the others. Asking for more minutes keeps every song in its split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from attrs import frozen

from accomp.plugins.corpora.mini_slakh.midi import MidiError, Song
from accomp.plugins.corpora.mini_slakh.render import Source

SPLITS = ("train", "validation", "test")
_ROUND = ("test", "train", "validation", *["train"] * 3, "test", *["train"] * 5)
_FEWEST = 24  # songs, in whatever minutes are asked for
SHORTEST = 15.0
"""Seconds under which a song is skipped: shorter than a training clip and its context."""


@frozen
class Candidate:
    """A readable song: what the plan has to know of it. `rank` 0 comes before 1, and so on."""

    source: Source
    fingerprint: str
    seconds: float
    rank: int

    @property
    def split(self) -> str:
        """By the source's group where it has one, else by the fingerprint."""
        return split_of(self.source.group or self.fingerprint)


@frozen
class Planned:
    """A candidate with its place: `folder` is "<split>/TrackNNNNN"."""

    candidate: Candidate
    folder: str


def shares(songs: int) -> dict[str, int]:
    """How many of `songs` each split gets, where none runs out; more than none each."""
    return {split: max(math.ceil(songs * _ROUND.count(split) / len(_ROUND)), 1) for split in SPLITS}


def longest_song(longest: float, minutes: float | None) -> float:
    """Seconds at which songs are cut: `longest`, less where fewer than 24 such songs would fill `minutes`."""
    if minutes is None:
        return longest
    return min(longest, max(60 * minutes / _FEWEST, SHORTEST))


def survey(source: Source, song: Song) -> Candidate:
    """Raises MidiError for a song that is too short or has fewer than two parts."""
    if song.seconds < SHORTEST:
        raise MidiError(f"{song.seconds:.1f} s long; expected at least {SHORTEST:g} s")
    if len(song.parts) < 2:
        raise MidiError(f"{len(song.parts)} instrument; expected at least 2")
    rank = 2 if source.annotations is not None else 0 if song.is_band else 1
    return Candidate(source, song.fingerprint, song.seconds, rank)


def split_of(fingerprint: str) -> str:
    """The split of a song with this fingerprint (hex)."""
    part = int(fingerprint[:12], 16) * 20 // 16**12
    return "train" if part < 15 else "validation" if part < 17 else "test"


def distinct(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[tuple[Candidate, Candidate]]]:
    """Songs once each, and the (left out, kept) pairs; of two names of one song the alphabetically first is kept."""
    kept: dict[str, Candidate] = {}
    twice = []
    for candidate in sorted(candidates, key=lambda c: (c.rank, c.source.name)):
        first = kept.setdefault(candidate.fingerprint, candidate)
        if first is not candidate:
            twice.append((candidate, first))
    return list(kept.values()), twice


def choose(candidates: list[Candidate], minutes: float | None) -> list[Planned]:
    """Songs to render, in order, until `minutes` are reached; all where it is None. The songs must be distinct."""
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
