"""Sources of music: Debian packages, a folder of MIDI files, the composer, or mma."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

from accomp.core.console import progress
from accomp.core.errors import DataError
from accomp.plugins.corpora import debian
from accomp.plugins.corpora.mini_slakh import composer, mma, plan
from accomp.plugins.corpora.mini_slakh.midi import MidiError, read
from accomp.plugins.corpora.mini_slakh.render import Source
from accomp.plugins.corpora.mini_slakh.wad import music_lumps

DEBIAN = {"freedoom": "BSD-3-Clause", "openttd-openmsx": "GPL-2.0-only"}
"""Debian packages with music inside, MIDI files or WAD files with MIDI lumps: licences by name."""
KINDS = ("auto", "debian", *DEBIAN, "composer", "mma")
_INSTEAD = "or use --midi FOLDER (your own MIDI files) or --source composer"
_TRIES = 40  # candidates per requested song; those of a complete split are skipped
_SUFFIXES = (".mid", ".midi", ".kar", ".wad")


@frozen
class Music:
    """The collected music.

    Attributes:
        sources: MIDI files as bytes.
        used: a line for each collection with its licence.
        problems: (name, reason) of unreadable files.
        notices: messages about the choice of sources.
    """

    sources: list[Source] = field(factory=list)
    used: list[str] = field(factory=list)
    problems: list[tuple[str, str]] = field(factory=list)
    notices: list[str] = field(factory=list)

    def digest(self) -> str:
        """Hash of all names and bytes, hex."""
        total = hashlib.sha256()
        for source in sorted(self.sources, key=lambda source: source.name):
            total.update(f"{source.name}\0{len(source.data)}\0".encode() + source.data)
        return total.hexdigest()


def gather(
    kind: str, *, folder: Path | None, licence: str, cache: Path, minutes: float | None, seed: int, longest: float
) -> Music:
    """Collect the music of `kind` and of `folder`, if given.

    "debian": the packages freedoom and openttd-openmsx; either by its own name. "composer": songs of the
    built-in composer. "mma": songs from the grooves of that package. "auto": only the folder if given, else Debian's
    packages, or the composer if those are unavailable.
    Raises DataError for an unknown kind, a folder that is missing or without MIDI, unavailable packages of "debian"
    or "mma", and "composer" or "mma" without minutes.
    """
    if kind not in KINDS:
        raise DataError(f"--source {kind!r}; expected one of {', '.join(KINDS)}")
    music = Music()
    if folder is not None:
        _add_folder(music, folder, licence)
    for package in DEBIAN:
        if kind in ("debian", package):
            _add_package(music, package, cache)
    if kind == "auto" and folder is None:
        for package in DEBIAN:
            try:
                _add_package(music, package, cache)
            except DataError as error:
                music.notices.append(str(error))
    if kind == "composer" or (kind == "auto" and not music.sources and folder is None):
        if kind == "auto":
            music.notices.append("no MIDI files are available: using the built-in composer")
        _add_composed(music, minutes, seed, longest)
    if kind == "mma":
        _add_grooves(music, cache, minutes, seed, longest)
    return music


def _add_folder(music: Music, folder: Path, licence: str) -> None:
    if not folder.is_dir():
        raise DataError(f"--midi {folder}: no such folder; expected a folder with {', '.join(_SUFFIXES)} files")
    files = _files(folder)
    if not files:
        raise DataError(f"--midi {folder}: holds no {', '.join(_SUFFIXES)} files, nor do its subfolders")
    _add_files(music, files, folder, folder.name, licence, folder.resolve().name)
    music.used.append(f"{len(files)} files of {folder.name}/ ({licence})")


def _add_package(music: Music, package: str, cache: Path) -> None:
    unpacked = debian.unpack(package, cache, instead=_INSTEAD)
    name = f"{package} {unpacked.version}"
    files = _files(unpacked.folder)
    if not files:
        raise DataError(f"Debian package {name} holds no {', '.join(_SUFFIXES)} files @ {unpacked.folder}")
    _add_files(music, files, None, name, DEBIAN[package], package)
    music.used.append(f"Debian {name} ({DEBIAN[package]})")


def _add_composed(music: Music, minutes: float | None, seed: int, longest: float) -> None:
    """Add the first songs of the composer that fill the share of `minutes` of every split."""
    wanted = _wanted("the composer", minutes, min(composer.SHORTEST, longest))
    for number in itertools.count():
        if max(wanted.values()) <= 0:
            break
        song = composer.compose(seed, number)
        name = f"composer: seed {seed}, song {number}"
        music.sources.append(Source(name, composer.LICENCE, song.midi, song.annotations, {"style": "composer"}))
        wanted[plan.split_of(read(song.midi, longest=longest).fingerprint)] -= 1
    music.used.append(f"accomp's composer, seed {seed} ({composer.LICENCE})")


def _add_grooves(music: Music, cache: Path, minutes: float | None, seed: int, longest: float) -> None:
    """Add the first usable songs of mma that fill the share of `minutes` of every split."""
    wanted = _wanted("mma", minutes, min(mma.SHORTEST, longest))
    unpacked = debian.unpack(mma.PACKAGE, cache, instead=_INSTEAD)
    files = mma.library(unpacked.folder)
    wanted = {
        split: count for split, count in wanted.items() if split in {_split_of_style(file.name) for file in files}
    }
    tries = _TRIES * sum(wanted.values())
    with progress("songs from grooves", sum(wanted.values())) as advance:
        for number in range(tries):
            if not any(wanted.values()):
                break
            song = mma.sketch(files, seed, number)
            if wanted.get(split := _split_of_style(song.style)):
                name = f"mma {unpacked.version}: {song.style}: seed {seed}, song {number}"
                if _add_groove_song(music, name, song, unpacked.folder, longest):
                    wanted[split] -= 1
                    advance(1, note=song.style)
    if any(wanted.values()):
        music.notices.append(
            f"of {tries} songs from {len(files)} groove files too few could be used; add minutes or --midi"
        )
    music.used.append(f"grooves of Debian mma {unpacked.version}, seed {seed} ({mma.LICENCE})")


def _add_groove_song(music: Music, name: str, song: mma.Sketch, folder: Path, longest: float) -> bool:
    """Add a song; return False and record the reason if unusable."""
    try:
        played = mma.play(song, folder)
        source = Source(
            name,
            mma.LICENCE,
            played.midi,
            played.annotations,
            {"style": song.style},
            group=mma.group_of(song.style),
        )
        plan.survey(source, read(played.midi, longest=longest))
    except MidiError as error:
        music.problems.append((name, str(error)))
        return False
    music.sources.append(source)
    return True


def _split_of_style(style: str) -> str:
    return plan.split_of(mma.group_of(style))


def _wanted(endless: str, minutes: float | None, shortest: float) -> dict[str, int]:
    """Return the number of songs of at least `shortest` seconds that fill the share of `minutes` of each split."""
    if minutes is None:
        raise DataError(f"{endless} is unlimited: give --minutes")
    return plan.shares(math.ceil(60 * minutes / shortest))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())


def _add_files(music: Music, files: list[Path], root: Path | None, collection: str, licence: str, style: str) -> None:
    """Add MIDI files; subfolders of a folder become style labels."""
    for path in files:
        within = path.relative_to(root) if root else Path(path.name)
        name = f"{collection}: {within}"
        labels = {"style": within.parts[0] if len(within.parts) > 1 else style}
        try:
            for lump, data in _contents(path):
                music.sources.append(Source(f"{name}: {lump}" if lump else name, licence, data, labels=labels))
        except (OSError, MidiError) as error:
            music.problems.append((name, str(error)))


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    data = path.read_bytes()
    if path.suffix.lower() == ".wad":
        yield from music_lumps(data)
    else:
        yield "", data
