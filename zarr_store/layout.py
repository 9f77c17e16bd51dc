"""On-disk format of a token store. Zarr 3 throughout: any Zarr library can read it.

    STORE                        attributes: format, version, identity, ingest, finished, and a checksum of these
      tracks/<split>/<key>       attributes: TrackRecord, version, and checksums of the files below and of the record
        codes  [P, T, K] uint16  part (stem or mixture), frame, level; [P, T, E] float16 of a codec without codebooks
        level  [S, T]    float16 A-weighted level of the S stems, which are the first S parts (dB)
      skipped/<split>/<key>      attributes: SkipRecord; no arrays
      .partial/                  temporary files of a writer; never read, cleared by the next writer
      .writer                    in an object store: the lock of the writer

A track is a folder that is written atomically (folder.py, bucket.py), and different tracks share no files. Each array
is one shard, whose inner chunks hold FRAMES frames of one part, compressed by numcodecs' Blosc (zstd, bit shuffle) and
followed by their CRC-32C, as is the shard's index.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

FORMAT = "accomp tokens"
VERSION = 5
READABLE = (1, 2, 3, 4, 5)
"""Version 1 has no labels, version 2 no checksums, version 3 no annotations, version 4 no checksums of chunks, no
latents, and no metadata of audio files as found. A writer upgrades an older store to version 5 without changing its
tracks; the next ingest adds the missing data, and rewrites tokens that are undamaged.
"""
FRAMES = 1024
"""Frames of an inner chunk. Reading a clip decodes one or two chunks a part."""

TRACKS = "tracks"
SKIPPED = "skipped"
PARTIAL = ".partial"
WRITER = ".writer"
_LONGEST_KEY = 200


class StoreError(ValueError):
    """A store that is missing, damaged, locked, or of other content than expected."""


@dataclass(frozen=True)
class Identity:
    """Tokenizer of a store: `space` (fields of the TokenSpace), name, hash of its weights."""

    space: dict[str, int]
    tokenizer: str
    fingerprint: str

    @property
    def continuous(self) -> bool:
        """True for latents, float16, instead of codes."""
        return self.space["codebooks"] == 0

    @property
    def channels(self) -> int:
        """Numbers a frame: K codes, or the E of a latent."""
        return self.space["codebooks"] or self.space["latent_dim"]

    def __str__(self) -> str:
        space = ", ".join(f"{name} {value}" for name, value in self.space.items())
        return f"tokenizer {self.tokenizer!r}, fingerprint {self.fingerprint}, {space}"


@dataclass(frozen=True)
class StemFile:
    """A stem's audio file as found.

    Attributes:
        name: unique in its track.
        rate: of the file (Hz); 0 where it was unreadable.
        bytes: size of the file; -1 where it is missing.
        sha256: of the file's bytes, hex; "" where it is missing.
        padded: samples of silence added at its end, at the store's rate, to make it as long as the longest stem.
        skipped: reason why it was left out; "" for a stem that is in the store.
        seen: size, mtime and ctime (ns), and inode of each of its files as found; empty where these may still change.
    """

    name: str
    rate: int
    bytes: int
    sha256: str
    padded: int = 0
    skipped: str = ""
    seen: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """One row of `codes`: a stem (one member, an instrument class) or the mean of several stems (instrument None).

    `labels` are the stem's own, text by name.
    """

    kind: str
    members: tuple[str, ...]
    instrument: int | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A target stem and its context, as rows of `codes`; `draw` counts the contexts of this target."""

    target: int
    context: int
    draw: int


@dataclass(frozen=True)
class TrackRecord:
    """Metadata of a stored track.

    Attributes:
        id, split, source, licence: from the corpus.
        samples: length at the store's sample rate, the same for all parts.
        frames: T.
        bandwidth: highest frequency that carries energy (Hz).
        parts: rows of `codes`, stems first.
        pairs: training pairs.
        files: every stem's file, including those left out.
        labels: of the song, text by name.
        annotations: of the song, as core/music/annotations.py writes them; {} where there are none.
    """

    id: str
    split: str
    source: str
    licence: str
    samples: int
    frames: int
    bandwidth: float
    parts: tuple[Part, ...]
    pairs: tuple[Pair, ...]
    files: tuple[StemFile, ...]
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)

    @property
    def stems(self) -> tuple[Part, ...]:
        """The parts that are stems: the first rows of `codes` and all rows of `level`."""
        return tuple(part for part in self.parts if part.kind == "stem")

    @property
    def skipped(self) -> tuple[StemFile, ...]:
        """Stems that were left out."""
        return tuple(file for file in self.files if file.skipped)

    def attributes(self) -> dict[str, Any]:
        """Convert to JSON-able attributes of the track's group."""
        return asdict(self)

    @classmethod
    def of(cls, attributes: dict[str, Any]) -> TrackRecord:
        """Invert `attributes`. Raises KeyError or TypeError for attributes of another kind."""
        given = {name: value for name, value in attributes.items() if name not in ("checksums", "version")}
        parts = (Part(**{**part, "members": tuple(part["members"])}) for part in given.pop("parts"))
        pairs = (Pair(**pair) for pair in given.pop("pairs"))
        files = (StemFile(**file) for file in given.pop("files"))
        return cls(**given, parts=tuple(parts), pairs=tuple(pairs), files=tuple(files))


@dataclass(frozen=True)
class SkipRecord:
    """A track that was left out, with the reason. Each ingest tries it again."""

    id: str
    split: str
    reason: str


def key(track_id: str) -> str:
    """Convert a track's id to the name of its group: the same characters where every file system accepts them, else
    escaped.

    Raises StoreError for an empty id.
    """
    if not track_id:
        raise StoreError("a track or split with an empty name cannot be stored; give it one")
    name = quote(track_id, safe=" ()',&+").replace("~", "%7E")
    if name[:1] in (".", " ") or name[:2] == "__":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > _LONGEST_KEY:
        name = f"{name[:_LONGEST_KEY]}~{hashlib.sha256(track_id.encode()).hexdigest()[:16]}"
    return name
