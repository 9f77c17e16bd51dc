"""Records of songs in a token store: their creation, the comparison with a corpus, and their renewal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from accomp.core.console import say
from accomp.core.data.ingest.tokenize_song import SongTokens
from accomp.core.errors import DataError
from accomp.core.files import hash_files, seen, settled
from accomp.core.interfaces import Tokenizer
from accomp.core.music.annotations import read_annotations
from accomp.core.spec.pairs import PairRules
from accomp.core.types import TokenSpace, Track
from accomp.zarr_store.layout import Identity, Pair, Part, StemFile, StoreError, TrackRecord
from accomp.zarr_store.writer import StoreWriter


def identity_of(tokenizer: Tokenizer) -> Identity:
    """Return the identity of a tokenizer, which must match that of a store."""
    return Identity(attrs.asdict(tokenizer.space), tokenizer.name, tokenizer.fingerprint)


@contextmanager
def open_writer(store: str | Path, tokenizer: Tokenizer, settings: dict[str, Any]) -> Iterator[StoreWriter]:
    try:
        writer = StoreWriter(
            store,
            identity_of(tokenizer),
            settings,
            implied=PairRules().ingested(),
            made_with=f"accomp {metadata.version('accomp')}",
            on_wait=lambda: say(f"another process is writing to {store}; waiting for it"),
        )
    except StoreError as error:
        raise DataError(str(error)) from error
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise DataError(f"no token store can be made here: {error.strerror} @ {error.filename}") from error
    with writer:
        yield writer


def is_stored(writer: StoreWriter, split: str, track: Track) -> bool:
    """Test that a track is stored, from the same audio, and that no stem that was left out has become usable.

    Raises DataError where the store has the track from another corpus.
    """
    record = writer.records.get((split, track.id))
    if record is None:
        return False
    if record.source != track.source:
        raise DataError(
            f"the store has the track {track.id!r} of split {split!r} from {record.source!r}, this corpus is "
            f"{track.source!r}; give each corpus a store of its own @ {writer.path}"
        )
    classes = {part.members[0]: part.instrument for part in record.stems}
    given = {name: stem.instrument for name, stem in track.stems.items()}
    if record.licence != track.licence or [file.name for file in record.files] != list(given):
        return False
    if any(given[name] != instrument for name, instrument in classes.items()):
        return False
    now = {file.name: _seen(track.stems[file.name].files) for file in record.files}
    if not all(_is_same_file(file, track.stems[file.name].files, now[file.name]) for file in record.files):
        return False
    if not writer.renew(record):
        return False
    found = tuple(
        dataclasses.replace(file, seen=now[file.name] if settled(now[file.name]) else []) for file in record.files
    )
    if found != record.files:
        writer.rewrite(dataclasses.replace(record, files=found))
    return True


def relabel(writer: StoreWriter, split: str, track: Track, rate: int) -> bool:
    """Update labels and annotations of a stored track; True where they had changed."""
    record = writer.records[split, track.id]
    labelled = _annotated(record, track, rate)
    if labelled != record:
        writer.rewrite(labelled)
    return labelled != record


def record_of(split: str, track: Track, song: SongTokens, space: TokenSpace) -> TrackRecord:
    """Build the record of a song, which is stored beside its arrays."""
    names = [tuple(song.names[row] for row in rows) for rows in song.members]
    stems = [Part("stem", members, number) for members, number in zip(names, song.instruments, strict=False)]
    record = TrackRecord(
        id=track.id,
        split=split,
        source=track.source,
        licence=track.licence,
        samples=song.samples,
        frames=space.frames(song.samples),
        bandwidth=song.bandwidth,
        parts=(*stems, *(Part("mix", members) for members in names[len(stems) :])),
        pairs=tuple(Pair(*pair) for pair in song.pairs),
        files=tuple(StemFile(**attrs.asdict(source)) for source in song.sources),
    )
    return _annotated(record, track, space.sample_rate)


def _annotated(record: TrackRecord, track: Track, rate: int) -> TrackRecord:
    """Add the labels of the song and its stems, and the annotations that fit its length."""
    own = [track.stems[part.members[0]].labels if part.kind == "stem" else {} for part in record.parts]
    parts = (dataclasses.replace(part, labels=dict(labels)) for part, labels in zip(record.parts, own, strict=True))
    annotations, _ = read_annotations(track.annotations.table(), record.samples / rate)
    return dataclasses.replace(record, labels=dict(track.labels), parts=tuple(parts), annotations=annotations.table())


def misfits(tracks: Sequence[tuple[str, Track]], writer: StoreWriter, rate: int) -> tuple[str, ...]:
    """List the annotations that do not fit the length of their song, which is stored without them."""
    checked = (
        (split, track, read_annotations(track.annotations.table(), writer.records[split, track.id].samples / rate)[1])
        for split, track in tracks
        if track.annotations.table() and (split, track.id) in writer.records
    )
    return tuple(f"{problem} @ {split}/{track.id}: annotations" for split, track, found in checked for problem in found)


def _is_same_file(file: StemFile, paths: Sequence[Path], now: list[list[int]]) -> bool:
    """Compare the metadata of a file; where these differ, its hash. A file that was missing must still be missing."""
    if file.bytes == -1 or not now:
        return file.bytes == -1 and not now
    if now == file.seen:
        return True
    return sum(size for size, *_ in now) == file.bytes and hash_files(paths) == file.sha256


def _seen(paths: Sequence[Path]) -> list[list[int]]:
    """Return the metadata of files; empty where one is missing."""
    try:
        return seen(paths)
    except FileNotFoundError:
        return []
