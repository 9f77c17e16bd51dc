"""`accomp corpus game-music`: recorded music of free games from Debian packages, as training data for codecs.

The command can be interrupted: pieces are written atomically, and the same command resumes with the missing ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import soundfile
import soxr
import typer
from attrs import frozen

from accomp.core.compute.cores import cores
from accomp.core.console import progress, say, warn
from accomp.core.data.song_folders import SPLITS
from accomp.core.errors import DataError
from accomp.core.files import write_atomic
from accomp.plugins.corpora import debian
from accomp.plugins.corpora.earlier import earlier
from accomp.plugins.corpora.licences import licence_of
from accomp.plugins.corpora.pool import each

PACKAGES = ("wesnoth-1.16-music", "warzone2100-music", "nexuiz-music", "ufoai-music")
"""Default packages; 533 MB of downloads."""
RATE = 32_000
SHORTEST = 20.0
"""Shortest piece (s); excludes jingles."""
RECORD = "SOURCES.json"
_AUDIO = (".ogg", ".opus", ".oga", ".flac", ".mp3", ".wav")
_ARCHIVES = (".pk3", ".pk4", ".zip")
_SHORT_NAME = 8  # characters; "track3" and "menu" are ambiguous without the name of their folder
_HELD_OUT = 6  # of a hundred pieces, for validation, and for test
_INSTEAD = (
    "name packages that can be had with --package (on another release of Debian they may have another version in their "
    "name), or run this where apt-get works and copy the folder"
)


@frozen
class Piece:
    """One audio file of a package.

    Attributes:
        package: name of the package and of the output folder.
        version: of the package.
        file: path in the package; "ARCHIVE:MEMBER" for a file in an archive.
        source: the file, or the archive, on disk.
        member: the name in the archive; None for a plain file.
        name: output file name without suffix.
        split: train, validation or test.
        licence: licence stated by the package.
    """

    package: str
    version: str
    file: str
    source: Path
    member: str | None
    name: str
    split: str
    licence: str

    @property
    def target(self) -> Path:
        """Output path under the folder of the corpus."""
        return Path(self.split, self.package, f"{self.name}.flac")

    def data(self) -> bytes:
        """Read the audio file."""
        if self.member is None:
            return self.source.read_bytes()
        with zipfile.ZipFile(self.source) as archive:
            return archive.read(self.member)


class Unusable(Exception):
    """Reason for skipping a piece; reported and counted."""


def game_music(
    out: Annotated[Path, typer.Argument(help="Folder to make: {train,validation,test}/PACKAGE/PIECE.flac.")],
    package: Annotated[
        list[str] | None, typer.Option(help=f"Debian package with music; repeatable. Without: {', '.join(PACKAGES)}.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where Debian packages are unpacked.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core if not given.")] = None,
) -> None:
    """Make a corpus of the music of free games: mono, 32 kHz, 16 bit, split by piece."""
    record = earlier(out, RECORD, ("pieces", "left_out")) or {"pieces": [], "left_out": []}
    cache = cache or debian.default_cache()
    pieces = [piece for name in dict.fromkeys(package or PACKAGES) for piece in _fetched(name, cache)]
    kept = _kept(out, record, pieces)
    for stale in out.glob("*/*/.*.part"):  # unfinished pieces of a killed run
        stale.unlink()
    missing = [piece for piece in pieces if not _is_made(out, kept.get(str(piece.target)))]
    left_out = [row for row in record["left_out"] if row["package"] not in {piece.package for piece in pieces}]
    with progress("pieces", len(missing)) as advance:
        for piece, made in each(partial(_try_convert, out=out), missing, workers or cores()):
            advance(1, note=piece.name)
            if isinstance(made, Unusable):
                left_out.append({"package": piece.package, "file": piece.file, "why": str(made)})
            else:
                kept[made["path"]] = made
                _write_record(out, kept, left_out)
    _write_record(out, kept, left_out)
    _summary(out, kept, left_out)


def pieces_of(unpacked: debian.Unpacked) -> list[Piece]:
    """Return the audio files of a package by path. Raises DataError for none or an unreadable archive."""
    files = sorted(_audio_files(unpacked.folder), key=lambda found: (str(found[0]), found[1] or ""))
    if not files:
        raise DataError(
            f"Debian package {unpacked.name} {unpacked.version} holds no audio ({', '.join(_AUDIO)}), in archives "
            f"({', '.join(_ARCHIVES)}) neither; name another with --package @ {unpacked.folder}"
        )
    alone = "wesnoth" in unpacked.name
    taken: Counter[str] = Counter()
    return [_piece(unpacked, source, member, taken, alone=alone) for source, member in files]


def name_of(file: PurePosixPath, *, alone: bool) -> str:
    """Return the normalised name of a piece: lower case, with hyphens between runs of letters and digits.

    Short names are prefixed with the name of their folder unless `alone`.
    """
    own = file.stem if len(file.stem) > _SHORT_NAME or alone else f"{file.parent.name}-{file.stem}"
    return re.sub(r"[^A-Za-z0-9]+", "-", own).lower()


def split_of(name: str) -> str:
    """Return the split of a piece by a hash of its normalised name: 88 % train, 6 % validation, 6 % test."""
    place = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100
    return "test" if place < _HELD_OUT else "validation" if place < 2 * _HELD_OUT else "train"


def convert(piece: Piece, out: Path) -> dict[str, Any]:
    """Write a piece under `out` atomically and return its row of the record.

    Channels are averaged, the sound is resampled to 32 kHz (soxr, high quality), and samples beyond full scale, common
    with lossy codecs, are clipped and counted. Raises Unusable for a piece that cannot be read or is too short.
    """
    data = piece.data()
    audio, clipped = _mono(data)
    target = out / piece.target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.stem}.part")
    soundfile.write(str(part), audio, RATE, subtype="PCM_16", format="FLAC")
    part.replace(target)
    return {
        "path": str(piece.target),
        "package": piece.package,
        "version": piece.version,
        "file": piece.file,
        "licence": piece.licence,
        "seconds": len(audio) / RATE,
        "sha256": hashlib.sha256(data).hexdigest(),
        "split": piece.split,
        "clipped_samples": clipped,
    }


def _try_convert(piece: Piece, *, out: Path) -> dict[str, Any] | Unusable:
    """Runs in a worker process."""
    try:
        return convert(piece, out)
    except Unusable as error:
        return error
    except OSError as error:
        raise DataError(
            f"cannot write: {error}; free some space and run the same command again: finished pieces are kept"
        ) from error


def _mono(data: bytes) -> tuple[np.ndarray, int]:
    """Decode to float32 [N] at 32 kHz within [-1, 1]; also return the number of clipped samples."""
    try:
        sound, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise Unusable(f"cannot be read: {error.error_string}") from error
    if len(sound) < SHORTEST * rate:
        raise Unusable(f"{len(sound) / rate:.1f} s long; expected at least {SHORTEST:g} s")
    if not np.isfinite(sound).all():
        raise Unusable("holds NaN or Inf")
    audio = sound.mean(axis=1)
    if rate != RATE:
        audio = soxr.resample(audio, rate, RATE, quality="HQ")
    return audio.clip(-1, 1), int((np.abs(audio) > 1).sum())


def _fetched(name: str, cache: Path) -> list[Piece]:
    return pieces_of(debian.unpack(name, cache, instead=_INSTEAD, announce=say))


def _audio_files(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield (file, None) and (archive, member) for all audio under a folder."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        if path.suffix.lower() in _AUDIO:
            yield path, None
        elif path.suffix.lower() in _ARCHIVES:
            yield from ((path, member) for member in _members(path))


def _members(archive: Path) -> list[str]:
    try:
        with zipfile.ZipFile(archive) as opened:
            return [name for name in opened.namelist() if PurePosixPath(name).suffix.lower() in _AUDIO]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"cannot read archive: {error}; delete the package's folder and run again @ {archive}"
        ) from error


def _piece(unpacked: debian.Unpacked, source: Path, member: str | None, taken: Counter[str], *, alone: bool) -> Piece:
    """Build a piece. `taken` counts names: pieces of equal name are numbered and share the split."""
    within = PurePosixPath(source.relative_to(unpacked.folder).as_posix())
    path = within if member is None else within.parent / member
    name = name_of(path, alone=alone)
    taken[name] += 1
    return Piece(
        unpacked.name,
        unpacked.version,
        str(within) if member is None else f"{within}:{member}",
        source,
        member,
        name if taken[name] == 1 else f"{name}-{taken[name]}",
        split_of(name),
        licence_of(unpacked.name, unpacked.folder, path),
    )


def _kept(out: Path, record: dict[str, Any], pieces: Sequence[Piece]) -> dict[str, dict[str, Any]]:
    """Return the rows of the record by path. Raises DataError if a package version differs."""
    versions = {piece.package: piece.version for piece in pieces}
    for row in record["pieces"]:
        if (now := versions.get(row["package"], row["version"])) != row["version"]:
            raise DataError(
                f"{out} was made from {row['package']} {row['version']}, now it is {now}; name another folder, or "
                "delete this one"
            )
    return {row["path"]: row for row in record["pieces"]}


def _is_made(out: Path, row: dict[str, Any] | None) -> bool:
    return row is not None and (out / row["path"]).is_file()


def _write_record(out: Path, rows: dict[str, dict[str, Any]], left_out: list[dict[str, str]]) -> None:
    record = {"sample_rate": RATE, "pieces": [rows[path] for path in sorted(rows)], "left_out": left_out}
    write_atomic(out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _summary(out: Path, rows: dict[str, dict[str, Any]], left_out: list[dict[str, str]]) -> None:
    if not rows:
        why = "; ".join(f"{row['file']}: {row['why']}" for row in left_out[:5])
        raise DataError(f"none of {len(left_out)} pieces can be used: {why}")
    say(f"{len(rows)} pieces, {_minutes(list(rows.values())):.1f} minutes in {out}")
    for split in SPLITS:
        own = [row for row in rows.values() if row["split"] == split]
        say(f"  {split:<10} {len(own):4d} pieces {_minutes(own):7.1f} min")
        if not own:
            warn(f"no piece falls to {split}; more packages are needed (a piece's name decides its split)")
    for (package, version, licence), count in sorted(
        Counter((row["package"], row["version"], row["licence"]) for row in rows.values()).items()
    ):
        say(f"  {package} {version}: {count} pieces, {licence}")
    if left_out:
        say(f"  left out: {len(left_out)}, named with the reason in {out / RECORD}")
        for row in left_out[:10]:
            say(f"    {row['package']}: {row['file']}: {row['why']}")


def _minutes(rows: Sequence[dict[str, Any]]) -> float:
    return sum(row["seconds"] for row in rows) / 60
