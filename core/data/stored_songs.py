"""Access to the songs of a token store: their pairs, windows and labels, checked against the spec."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attrs import frozen

from accomp.core.audio.loudness import nonsilent
from accomp.core.data.stored_records import identity_of
from accomp.core.data.windows import windows
from accomp.core.errors import DataError
from accomp.core.interfaces import Tokenizer
from accomp.core.music.instruments import CLASSES
from accomp.core.music.labels import all_labels
from accomp.core.spec.pairs import INGESTED, PairRules
from accomp.zarr_store import layout
from accomp.zarr_store.reader import Store, StoredTrack, damaged

TRAIN, VALIDATION = "train", "validation"
"""Splits of the store."""


@frozen
class Pair:
    """A target stem and the stems whose mean it accompanies, by their names in the corpus."""

    split: str
    track: str
    target: str
    instrument: int
    members: tuple[str, ...]


def open_store(path: str | Path, tokenizer: Tokenizer) -> Store:
    """Open the token store at `path`. Raises DataError where there is none, or one of another tokenizer."""
    try:
        return Store(path, identity_of(tokenizer))
    except layout.StoreError as error:
        raise DataError(str(error)) from error


def pairs(path: str | Path, split: str, tokenizer: Tokenizer) -> list[Pair]:
    """List the pairs of a split, ordered by track. Raises DataError for an empty split and as `open_store` does."""
    tracks = tracks_of(open_store(path, tokenizer), split)
    return [named_pair(track.record, pair) for track in tracks for pair in track.record.pairs]


def windows_of(track: StoredTrack, frames: int, rules: PairRules) -> Iterator[tuple[np.ndarray, Counter[str]]]:
    """Yield, for each pair of a track, the result of `windows` for windows of `frames` frames.

    Raises DataError for a damaged track.
    """
    try:
        sounding = nonsilent(track.levels(), rules.silence_db)
    except layout.StoreError as error:
        raise DataError(str(error)) from error
    record = track.record
    rows = {part.members[0]: row for row, part in enumerate(record.stems)}
    for pair in record.pairs:
        mixture = np.any(sounding[[rows[name] for name in record.parts[pair.context].members]], axis=0)
        yield windows(sounding[pair.target], mixture, frames, rules)


def tracks_of(store: Store, split: str) -> list[StoredTrack]:
    """Return the tracks of a split. Raises DataError for an empty split and a damaged track; in a folder all are
    opened.
    """
    try:
        tracks = store.tracks(split)
        for track in tracks:
            _check_classes(track)
            if isinstance(store.path, Path):
                track.open()
        if tracks:
            return tracks
        counts = Counter(record.split for record in store.records())
    except layout.StoreError as error:
        raise DataError(str(error)) from error
    splits = ", ".join(f"{name} ({count} tracks)" for name, count in counts.items()) or "no track at all"
    raise DataError(
        f"the store has no track of split {split!r}; it has {splits}; run `accomp ingest SPEC` @ {store.path}"
    )


def check_rules(store: Store, rules: PairRules) -> None:
    """Raise DataError for a store whose pairs were made by other rules than these."""
    stored, current = {**PairRules().ingested(), **store.ingest}, rules.ingested()
    if differing := [name for name in INGESTED if stored[name] != current[name]]:
        changes = "; ".join(
            f"pairs.{name} is {stored[name]!r} there, {current[name]!r} in the spec" for name in differing
        )
        raise DataError(f"{changes}; ingest into another store path, or use the rules of the store @ {store.path}")


def target_labels(record: layout.TrackRecord) -> list[dict[str, str]]:
    """Return all labels of the target of each pair."""
    targets = [record.parts[pair.target] for pair in record.pairs]
    return [all_labels(record.labels, part.labels, int(part.instrument or 0)) for part in targets]


def named_pair(record: layout.TrackRecord, pair: layout.Pair) -> Pair:
    target = record.parts[pair.target]
    members = record.parts[pair.context].members
    return Pair(record.split, record.id, target.members[0], int(target.instrument or 0), members)


def store_warnings(store: Store, tracks: list[StoredTrack], split: str) -> Iterator[str]:
    """Yield warnings about a store that is used for training."""
    if isinstance(store.path, Path) and (old := sum(not track.checked for track in tracks)):
        yield (
            f"{old} of {len(tracks)} songs of split {split!r} were stored by an earlier accomp, without checksums of "
            f"their chunks, so that a flipped bit may be read as another code; `accomp store verify {store.path}` "
            f"finds those, the next `accomp ingest SPEC` adds the checksums"
        )


def _check_classes(track: StoredTrack) -> None:
    """Raise StoreError for a stem of an unknown instrument class."""
    for part in track.record.stems:
        if not 0 <= int(part.instrument or 0) < len(CLASSES):
            raise damaged(track.folder, f"its record has instrument {part.instrument}; there are {len(CLASSES)}")
