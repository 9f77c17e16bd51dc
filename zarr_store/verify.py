"""Whether a store still holds what was written: every file against its checksum, every record against its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from accomp.zarr_store.checksums import RECORD, sum_of
from accomp.zarr_store.layout import TRACKS, Identity, StoreError, TrackRecord, key
from accomp.zarr_store.places import ObjectPath, children
from accomp.zarr_store.reader import Store, StoredTrack, parsed
from accomp.zarr_store.writer import open_for_writing


@dataclass(frozen=True)
class Checked:
    """A track that was looked at.

    Attributes:
        split, id: whose it is; by its folder, as far as that can be told, where the record is broken.
        place: its folder.
        problems: what is wrong with it, a line each; empty where all is well.
        by_checksum: False for a track of an earlier version, which has none: that its tokens can be decoded and lie in
            range is then all that is known.
    """

    split: str
    id: str
    place: Path | ObjectPath
    problems: tuple[str, ...]
    by_checksum: bool


def verify(store: Store) -> Iterator[Checked]:
    """Every track of the store, ordered by the names of their folders; all of its bytes are read."""
    for split, _ in children(store.path / TRACKS, "zarr.json"):
        for folder, metadata in children(split, "zarr.json"):
            names = unquote(split.name), unquote(folder.name)
            if metadata is None:
                yield Checked(*names, folder, ("its record, zarr.json, is gone",), by_checksum=False)
                continue
            try:
                attributes = parsed(folder, metadata)
                record = TrackRecord.of(attributes)
            except (StoreError, KeyError, TypeError):
                yield Checked(*names, folder, ("its record, zarr.json, cannot be read",), by_checksum=False)
                continue
            sums = attributes.get("checksums")
            problems = [] if sums is None else _changed(folder, attributes, sums)
            if sums is None:
                problems += _undecodable(StoredTrack(folder, record), store.identity)
            if (key(record.split), key(record.id)) != (split.name, folder.name):
                problems.append(f"the record is that of {record.split}/{record.id}")
            yield Checked(*names, folder, tuple(problems), by_checksum=sums is not None)


def remove(store: Store, tracks: Sequence[Checked]) -> None:
    """Take tracks out of the store, so that the next ingest makes them again. Raises StoreError where one writes."""
    files = open_for_writing(store.path)
    try:
        for track in tracks:
            files.remove(TRACKS, track.place.parent.name, track.place.name)
    finally:
        files.close()


def _changed(folder: Path | ObjectPath, attributes: dict, sums: dict[str, str]) -> list[str]:
    found = [] if sum_of(attributes) == sums.get(RECORD) else ["its record is not what was written"]
    for name, expected in sums.items():
        if name == RECORD:
            continue
        try:
            data = folder.joinpath(*name.split("/")).read_bytes()
        except FileNotFoundError:
            found.append(f"{name} is gone")
        except OSError as error:
            found.append(f"{name} cannot be read: {error.strerror}")
        else:
            if hashlib.sha256(data).hexdigest() != expected:
                found.append(f"{name} is not what was written ({len(data)} bytes)")
    return found


def _undecodable(track: StoredTrack, identity: Identity) -> list[str]:
    record = track.record
    try:
        levels = track.levels()
        parts = (track.codes(row) for row in range(len(record.parts)))
        wide = any(codes.shape != (record.frames, identity.channels) for codes in parts)
        wrong = any(_wrong(track.codes(row), identity) for row in range(len(record.parts)))
    except (StoreError, IndexError) as error:
        return [str(error)]
    if wide or levels.shape[1] != record.frames:
        return ["its arrays are not as long or wide as its record says"]
    if wrong:
        return ["latents that are NaN or Inf"] if identity.continuous else ["codes beyond the codebook"]
    return [] if np.isfinite(levels).all() else ["levels that are NaN or Inf"]


def _wrong(tokens: np.ndarray, identity: Identity) -> bool:
    """Whether tokens hold what no tokenizer of that identity gives."""
    if identity.continuous:
        return tokens.dtype != np.float16 or not np.isfinite(tokens).all()
    return bool((tokens >= identity.space["codebook_size"]).any())
