"""Verification of a store: every file against its checksum, every record against its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from accomp.zarr_store.checksums import changed
from accomp.zarr_store.layout import SKIPPED, TRACKS, StoreError
from accomp.zarr_store.places import ObjectPath, children
from accomp.zarr_store.reader import Store, StoredTrack, parsed, record_problems, skip_record
from accomp.zarr_store.shards import Damaged
from accomp.zarr_store.writer import open_for_writing


@dataclass(frozen=True)
class Checked:
    """A verified track.

    Attributes:
        split, id: of the record; from its folder, as far as possible, where the record is damaged.
        place: its folder.
        problems: damages, a line each; empty where there are none.
        by_checksum: False for a track of an earlier version, which has none: then its tokens were only decoded and
            compared with their range.
    """

    split: str
    id: str
    place: Path | ObjectPath
    problems: tuple[str, ...]
    by_checksum: bool


def verify(store: Store) -> Iterator[Checked]:
    """Verify every track of the store, ordered by the names of their folders; all of its bytes are read.

    Damaged records of songs that were left out are included. Raises PermissionError for unreadable files.
    """
    for split, _ in children(store.path / TRACKS, "zarr.json"):
        for folder, metadata in children(split, "zarr.json"):
            yield _checked(store, folder, metadata)
    for split, _ in children(store.path / SKIPPED, "zarr.json"):
        for folder, metadata in children(split, "zarr.json"):
            try:
                skip_record(folder, parsed(metadata or b""))
            except (Damaged, StoreError):
                why = "the record of why it was left out is not what was written"
                yield Checked(unquote(split.name), unquote(folder.name), folder, (why,), by_checksum=False)


def _checked(store: Store, folder: Path | ObjectPath, metadata: bytes | None) -> Checked:
    names = unquote(folder.parent.name), unquote(folder.name)
    if metadata is None:
        return Checked(*names, folder, ("its record, zarr.json, is gone",), by_checksum=False)
    try:
        attributes = parsed(metadata)
    except Damaged:
        return Checked(*names, folder, ("its record, zarr.json, cannot be read",), by_checksum=False)
    problems = record_problems(folder, attributes, store.identity)
    by_checksum = attributes.get("checksums") is not None
    if by_checksum:
        problems = [*dict.fromkeys([*problems, *changed(folder, attributes)])]
    if not problems:
        problems = _undecodable(store.track(folder, attributes), rows=0 if by_checksum else None)
    return Checked(*names, folder, tuple(problems), by_checksum=by_checksum)


def remove(store: Store, tracks: Sequence[Checked]) -> None:
    """Remove tracks from the store, so that the next ingest tokenizes them again. Raises StoreError during
    another write.
    """
    files = open_for_writing(store.path)
    try:
        for track in tracks:
            files.remove(*(place.name for place in (track.place.parent.parent, track.place.parent, track.place)))
    finally:
        files.close()


def _undecodable(track: StoredTrack, rows: int | None) -> list[str]:
    """Test that the arrays match the record, and decode some of the parts, or all."""
    try:
        track.open()
        track.levels()
        for row in range(len(track.record.parts) if rows is None else rows):
            track.codes(row)
    except StoreError as error:
        return [str(error.__cause__ or error)]
    return []
