"""Any folder of stems: each folder with audio files is a song, each of its files a stem.

Instruments are inferred from file names and reported; `classes` in the spec overrides the inference.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import attrs
import numpy as np
from attrs import field, frozen
from attrs import validators as v

from accomp.plugin import DataError, Stem, Track, composed
from accomp.plugin.corpora import (
    AUDIO,
    CLASSES,
    SPLITS,
    SongFolders,
    audio_files,
    folders_once,
    from_name,
    nearest_class,
    not_read,
    split_of,
    splits_among,
)
from accomp.plugin.sound import io as audio

_UNKNOWN = CLASSES.index("Unknown")
_MIXTURES = frozenset({"mix", "mixture", "mixdown", "master", "fullmix", "premaster"})
_WITHOUT = re.compile(r"(?<![a-z])(?:no|non|without|minus|w/o|sans|ohne)(?![a-z])(.+)")
_REST = re.compile(
    r"(?<![a-z])(?:no(?:drum|bass|vocal|vox|guitar|piano)|(?:drum|bass|vocal)less|instrumental|accompaniment|karaoke"
    r"|backing[^a-z]*track|play[^a-z]?along|minus[^a-z]?one)"
)
_OWN_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
_SHOWN = 8  # names quoted in a note


def _are_classes(_: object, attribute: attrs.Attribute, given: dict[str, str]) -> None:
    for pattern, name in given.items():
        if name not in CLASSES:
            raise ValueError(f"no instrument is called {name!r}{nearest_class(name)} ({pattern})")


class Folder:
    """A folder of stems. A song is a folder with audio files, at any depth; its id is its path under the root.

    Files called mix, mixture, mixdown or master are skipped. A mix without one stem (no_drums, instrumental,
    accompaniment) is used as context of the single other stem of its song and never as a target; in songs with more
    stems it overlaps with them and is skipped. Links to the same file or folder are read once.

    If the root has a folder train/, the splits are its songs and those in validation/ (or valid/, val/) and test/;
    otherwise a hash of the song's id decides.

    Attributes:
        splits: non-empty splits.
        problems: a line for each file or song that was skipped, with the reason; filled by `tracks`.
    """

    @frozen
    class Config:
        """Location, classes and splits.

        Attributes:
            root: folder of songs; "~" is expanded.
            classes: file name, without suffix and in lower case, with * and ? -> instrument class: {"gtr*" = "Guitar"}.
            held_out: share of songs assigned to validation, and to test, by a hash.
            licence: licence of the music, recorded in the store.
        """

        root: str
        classes: dict[str, str] = field(factory=dict, validator=_are_classes)
        held_out: float = field(default=0.1, validator=[v.ge(0.0), v.le(0.5)])
        licence: str = "unstated"

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Write one song of 1 s in each split for the conformance kit."""
        for split in SPLITS:
            for name in ("Bass", "drums 1", "mix"):
                audio.write(folder / split / "song" / f"{name}.wav", np.zeros(8000, dtype=np.float32), 8000)
        return cls.Config(str(folder))

    def __init__(self, config: Config):
        self.config = config
        self._songs = SongFolders(
            config.root,
            dict.fromkeys(SPLITS, ""),
            song="of audio files, one a stem",
            get="name an existing folder",
        )
        self.problems = self._songs.problems
        root = self._songs.root
        self._own = (root / "train").is_dir()
        self._found, self._links = _found(root) if root.is_dir() else ({}, [])
        self._all = sorted(self._found)
        self.splits = splits_among(map(self._split, self._all))
        self._guesses: dict[str, tuple[str, int]] = {}
        self._fitting: set[str] = set()

    @property
    def notes(self) -> list[str]:
        """Return inferred classes (one line a class), unmatched patterns, and empty splits."""
        words: dict[int, Counter[str]] = {}
        for word, instrument in self._guesses.values():
            words.setdefault(instrument, Counter())[word] += 1
        lines = [_note(instrument, found) for instrument, found in sorted(words.items())]
        lines += [
            f"corpus.classes: {pattern!r} matches no file name so far"
            for pattern in self.config.classes
            if pattern not in self._fitting
        ]
        if missing := [split for split in SPLITS if split not in self.splits]:
            lines.append(
                f"no song falls to {' and '.join(missing)}; add songs, or put them into folders train/, validation/ "
                "and test/"
            )
        return lines

    def tracks(self, split: str) -> Iterator[Track]:
        """Yield the songs of a split by path. Raises DataError for a missing folder, unknown or empty split."""
        self._songs.folder(split)
        root = self._songs.root
        for why in self._links:
            self._songs.leave_out(why)
        if not self._all:
            raise DataError(f"no audio files ({', '.join(AUDIO)}), neither here nor further down @ {root}")
        folders = [folder for folder in self._all if self._split(folder) == split]
        if not folders:
            raise DataError(f"empty split {split!r}: none of {len(self._all)} songs falls to it @ {root}")
        for folder in self._all:
            if self._split(folder) is None:
                self._songs.leave_out(f"song outside of train/, validation/ and test/ @ {folder}")
        return self._songs.read(split, folders, self._track)

    def _split(self, folder: Path) -> str | None:
        id = self._id(folder)
        if self._own:
            return _OWN_SPLITS.get(id.partition("/")[0])
        return split_of(id, held_out=self.config.held_out)

    def _id(self, folder: Path) -> str:
        own = folder != self._songs.root
        return composed(folder.relative_to(self._songs.root).as_posix() if own else folder.resolve().name)

    def _track(self, folder: Path) -> Track:
        files = self._found[folder]
        shared = _shared_start([composed(path.stem) for path in files])
        stems: dict[str, Stem] = {}
        rests: list[Path] = []
        for path in files:
            name = composed(path.stem)
            if name in stems:
                self._songs.leave_out(f"another file of that name is used: {stems[name].path.name} @ {path}")
            elif (instrument := self._instrument(path, shared)) is None:
                self._songs.leave_out(f"a mixture, by its name @ {path}")
            else:
                stems[name] = Stem(path, instrument, path.name)
                rests += [path] if self._is_rest(path, shared) else []
        for path in rests if len(stems) > 2 else ():
            del stems[composed(path.stem)]
            self._songs.leave_out(f"a mixture of other stems of the song, by its name @ {path}")
        if not stems:
            raise DataError(f"song without a stem @ {folder}")
        return Track(self._id(folder), stems, source="folder", licence=self.config.licence)

    def _instrument(self, path: Path, shared: int) -> int | None:
        """Return the class of a file by the distinctive part of its name, else the whole name; None for a mixture."""
        if (pattern := self._pattern(path)) is not None:
            self._fitting.add(pattern)
            return CLASSES.index(self.config.classes[pattern])
        name = composed(path.stem)
        own, rest = name[shared:], self._is_rest(path, shared)
        guess = None if rest else from_name(own)
        if guess is None and _MIXTURES.intersection(re.findall(r"[a-z]+", own.lower())):
            return None
        if guess is None and not rest:
            own, guess = name, from_name(name)
        instrument = _UNKNOWN if guess is None else guess
        self._guesses[str(path)] = (own.strip(" -_.").lower(), instrument)
        return instrument

    def _pattern(self, path: Path) -> str | None:
        name = composed(path.stem).lower()
        return next((p for p in self.config.classes if fnmatchcase(name, composed(p).lower())), None)

    def _is_rest(self, path: Path, shared: int) -> bool:
        """Return True for a mix without one stem, by its name; entries of `classes` take precedence."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", composed(path.stem)[shared:]).lower()
        lacks = _WITHOUT.search(words)
        named = _REST.search(words) is not None or (lacks is not None and from_name(lacks[1]) is not None)
        return named and self._pattern(path) is None


def _found(root: Path) -> tuple[dict[Path, list[Path]], list[str]]:
    """Return the audio files of each folder at any depth, each real file once, and a line for each duplicate link.

    Folders with unsupported audio formats are included.
    """
    folders, left = folders_once(root)
    files = {folder: audio_files(folder) for folder in folders}
    seen = {os.path.realpath(path) for found in files.values() for path in found if not path.is_symlink()}
    for found in files.values():
        for path in [path for path in found if path.is_symlink()]:
            real = os.path.realpath(path)
            if real in seen:
                left.append(f"a link to a file that is read already ({real}) @ {path}")
                found.remove(path)
            seen.add(real)
    return {folder: found for folder, found in files.items() if found or any(not_read(folder))}, left


def _shared_start(names: Sequence[str]) -> int:
    """Return the length of the common prefix of all names of a song, up to its last non-letter."""
    shared = 0
    for number, characters in enumerate(zip(*names, strict=False), start=1):
        if len(names) == 1 or len(set(characters)) > 1:
            break
        if not characters[0].isalpha():
            shared = number
    return shared


def _note(instrument: int, words: Counter[str]) -> str:
    quoted = ", ".join(f"{word!r}" for word, _ in words.most_common(_SHOWN))
    if len(words) > _SHOWN:
        quoted += f" and {len(words) - _SHOWN} others"
    if instrument != _UNKNOWN:
        return f"{CLASSES[instrument]}, inferred from file names ({words.total()}): {quoted}"
    return (
        f"Unknown, used as context only, since the file name gives no instrument ({words.total()}): {quoted}; "
        'to assign classes: corpus.classes = { "NAME*" = "Guitar" }'
    )
