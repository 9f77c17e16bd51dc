"""Folders of songs on disk, shared by the corpora: listing, exclusions with reasons, and hashed splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from accomp.core.errors import DataError
from accomp.core.music.annotations import NOTHING, Annotations, read_annotations
from accomp.core.music.labels import read_labels
from accomp.core.names import composed, escaped, is_text
from accomp.core.types import Track

SPLITS = ("train", "validation", "test")
AUDIO = (
    ".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".caf",
)  # fmt: skip
"""Suffixes of audio files, in lower case."""
NOT_READ = (
    ".m4a", ".mp4", ".m4b", ".aac", ".alac", ".wma", ".ape", ".wv", ".tta", ".dsf", ".dff", ".ac3", ".dts", ".mka",
    ".webm", ".mpc", ".mp2", ".amr", ".ra", ".au", ".snd", ".sd2", ".voc", ".rex", ".rx2", ".m4p", ".spx", ".tak",
)  # fmt: skip
"""Suffixes of unsupported audio formats, in lower case: such files are reported."""


def split_of(song: str, *, held_out: float = 0.1) -> str:
    """Assign a song to a split by a hash of its id alone, so that adding songs moves none.

    held_out: share of validation, and of test.
    """
    place = int.from_bytes(hashlib.sha256(composed(song).encode()).digest()[:8], "big") / 2**64
    return "test" if place < held_out else "validation" if place < 2 * held_out else "train"


def splits_among(found: Iterable[str | None]) -> tuple[str, ...]:
    """List the splits that occur among songs, in order; all of them where there is no song."""
    used = {split for split in found if split is not None}
    return tuple(split for split in SPLITS if not used or split in used)


def audio_files(folder: Path) -> list[Path]:
    """List the audio files directly in a folder, by name.

    Hidden files are excluded ("._x.wav" is an artefact of macOS), and those whose names are not UTF-8 (`not_read`).
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in AUDIO and not path.name.startswith(".") and is_text(path.name) and path.is_file()
    )


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, by name, without hidden ones and those whose names are not UTF-8 (`not_read`)."""
    found = (path for path in folder.iterdir() if not path.name.startswith(".") and is_text(path.name))
    return sorted(path for path in found if path.is_dir())


def not_read(folder: Path) -> Iterator[str]:
    """Describe each entry of a folder that looks like audio, or like a folder, and is not read."""
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        sound = path.suffix.lower() in (*AUDIO, *NOT_READ)
        if not is_text(path.name) and (sound or path.is_dir()):
            yield f"the name is no text (bytes that are not UTF-8); give it another one @ {escaped(path)}"
        elif sound and path.is_symlink() and not path.exists():
            yield f"a link that leads nowhere ({os.readlink(path)}) @ {path}"
        elif path.suffix.lower() in NOT_READ and path.is_file():
            yield f"{path.suffix} is not read; convert it, to one of {', '.join(AUDIO)} @ {path}"


def folders_once(root: Path) -> tuple[list[Path], list[str]]:
    """Walk the folders from `root` down, following links, each real folder once; describe each link not followed.

    Links come after everything that is in the root itself; one that leads to the root or above it is not followed.
    """
    seen: set[str] = set()
    folders, left = [], []
    here, links = [root], list[Path]()
    while here or links:
        folder = here.pop() if here else links.pop()
        real = os.path.realpath(folder)
        if real in seen or (folder != root and Path(os.path.realpath(root)).is_relative_to(real)):
            left.append(f"a link to a folder that is read already, or lies above ({real}) @ {folder}")
            continue
        seen.add(real)
        folders.append(folder)
        for inner in reversed(subfolders(folder)):
            (links if inner.is_symlink() else here).append(inner)
    return folders, left


class SongFolders:
    """The folders of a corpus, split by split, with the record of exclusions.

    Attributes:
        problems: a line for each stem, song or label that was left out, with the reason; none twice.
    """

    def __init__(self, root: str, folders: Mapping[str, str], *, song: str, get: str):
        """Take the layout of a corpus.

        folders: each split's folder under the root, "" for the root itself. song: appearance of a song on disk, get:
        source of the corpus, both for messages.
        """
        self.root = Path(root).expanduser()
        self.problems: list[str] = []
        self._folders, self._song, self._get = folders, song, get

    def leave_out(self, why: str) -> None:
        """Record an exclusion and its place."""
        if why not in self.problems:
            self.problems.append(why)

    def labels(self, given: object, where: str) -> dict[str, str]:
        """Return the valid labels of metadata; invalid ones are recorded."""
        labels, problems = read_labels(given)
        for problem in problems:
            self.leave_out(f"{problem} @ {where}")
        return labels

    def annotations(self, given: object, where: str) -> Annotations:
        """Return the valid annotations of metadata; invalid ones are recorded."""
        if given is None:
            return NOTHING
        annotations, problems = read_annotations(given)
        for problem in problems:
            self.leave_out(f"{problem} @ {where}: annotations")
        return annotations

    def folder(self, split: str) -> Path:
        """Return the folder of a split. Raises DataError for an unknown split and a missing folder."""
        if split not in self._folders:
            raise DataError(f"unknown split {split!r}; expected one of {', '.join(self._folders)} @ {self.root}")
        expected = ", ".join(dict.fromkeys(filter(None, self._folders.values()))) or f"folders {self._song}"
        if not self.root.is_dir():
            raise DataError(f"no corpus folder; expected one with {expected} in it: {self._get} @ {self.root}")
        folder = self.root / self._folders[split]
        if not folder.is_dir():
            raise DataError(f"no folder {self._folders[split]}/; {self._instead(expected)} @ {self.root}")
        return folder

    def of(self, split: str, pattern: str = "*", *, where: Callable[[Path], bool] = lambda _: True) -> list[Path]:
        """List the folders of a split's songs, by name, that match `pattern` and satisfy `where`.

        Raises DataError for an unknown split, a missing folder, and a split without songs.
        """
        folder = self.folder(split)
        found = sorted(path for path in subfolders(folder) if path.match(pattern) and where(path))
        if not found:
            raise DataError(f"empty split {split!r}: expected folders {self._song} @ {folder}")
        return found

    def read(self, split: str, folders: Iterable[Path], track: Callable[[Path], Track]) -> Iterator[Track]:
        """Apply `track` to each folder; one for which it raises DataError is left out, with that reason.

        Raises DataError where none is left.
        """
        used, before = set[str](), len(self.problems)
        for folder in folders:
            for why in not_read(folder):
                self.leave_out(why)
            try:
                song = track(folder)
            except DataError as error:
                self.leave_out(str(error))
                continue
            if song.id in used:
                self.leave_out(f"another song is called {song.id!r} as well, up to the form of its accents @ {folder}")
                continue
            used.add(song.id)
            yield song
        if not used:
            few = "; ".join(self.problems[before:][:3] or self.problems[:3])
            raise DataError(f"no song of split {split!r} can be used: {few} @ {self.root / self._folders[split]}")

    def _instead(self, expected: str) -> str:
        names = {Path(folder).parts[0] for folder in self._folders.values() if folder}
        within = sorted(
            path for path in self.root.iterdir() if path.is_dir() and any((path / n).is_dir() for n in names)
        )
        if within:
            return f"is {within[0]} the root?"
        found = ", ".join(sorted(path.name for path in self.root.iterdir())[:5]) or "nothing"
        return f"expected {expected}, found {found}"
