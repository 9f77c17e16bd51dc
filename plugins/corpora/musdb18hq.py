"""Layout of MUSDB18-HQ: {train,test}/ARTIST - TITLE/{mixture,drums,bass,vocals,other}.wav, 44.1 kHz stereo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attrs import frozen

from accomp.core.audio import io as audio
from accomp.core.data.song_folders import SPLITS, SongFolders, audio_files
from accomp.core.errors import DataError
from accomp.core.music.instruments import CLASSES, from_name
from accomp.core.types import Stem, Track

_MIXTURE = "mixture"
_UNKNOWN = CLASSES.index("Unknown")
VALIDATION = frozenset(
    {
        "ANiMAL - Rockshow",
        "Actions - One Minute Smile",
        "Alexander Ross - Goodbye Bolero",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Fergessen - Nos Palpitants",
        "James May - On The Line",
        "Johnny Lokke - Promises & Lies",
        "Leaf - Summerghost",
        "Meaxic - Take A Step",
        "Patrick Talbot - A Reason To Leave",
        "Skelpolu - Human Mistakes",
        "Traffic Experiment - Sirens",
        "Triviul - Angelsaint",
        "Young Griffo - Pennies",
    }
)
"""The songs of train/ in the official validation split."""


class Musdb18Hq:
    """MUSDB18-HQ. The class of a stem follows its file name: `other` is Unknown, used as context only.

    Attributes:
        splits: train, test, and validation if songs of the official list exist.
        problems: a line for each stem or song that was skipped, with the reason; filled by `tracks`.
    """

    @frozen
    class Config:
        """root: folder with train/ and test/; "~" is expanded."""

        root: str

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Write one song of 1 s in each split for the conformance kit."""
        for song in ("train/A - One", f"train/{min(VALIDATION)}", "test/B - Two"):
            for name in (_MIXTURE, "drums", "bass", "vocals", "other"):
                audio.write(folder / song / f"{name}.wav", np.zeros((8000, 2), dtype=np.float32), 8000)
        return cls.Config(str(folder))

    def __init__(self, config: Config):
        self._songs = SongFolders(
            config.root,
            {"train": "train", "validation": "train", "test": "test"},
            song="ARTIST - TITLE with drums.wav, bass.wav, vocals.wav and other.wav",
            get="docs/guides/corpora.md says how to download MUSDB18-HQ",
        )
        self.problems = self._songs.problems
        train = self._songs.root / "train"
        held_out = not train.is_dir() or any((train / song).is_dir() for song in VALIDATION)
        self.splits = SPLITS if held_out else ("train", "test")

    def tracks(self, split: str) -> Iterator[Track]:
        """Yield the songs of a split by folder name. Raises DataError for a missing folder, unknown or empty split."""
        folders = self._songs.of(split, where=lambda folder: split == "test" or _split(folder) == split)
        return self._songs.read(split, folders, self._track)

    def _track(self, folder: Path) -> Track:
        if folder.parent.name == "train" and (self._songs.root / "test" / folder.name).is_dir():
            raise DataError(f"song is in test/ too, where it stays; left out of train/ @ {folder}")
        stems = {}
        for path in audio_files(folder):
            if path.stem != _MIXTURE:
                instrument = from_name(path.stem)
                stems[path.stem] = Stem(path, _UNKNOWN if instrument is None else instrument, path.stem)
        for name in ("drums", "bass", "vocals", "other"):
            if name not in stems:
                self._songs.leave_out(f"stem file is missing; expected {name}.wav @ {folder}")
        if not stems:
            raise DataError(f"song without a stem @ {folder}")
        return Track(folder.name, stems, source="MUSDB18-HQ", licence="academic use only")


def _split(folder: Path) -> str:
    """Return the split of a song in train/."""
    return "validation" if folder.name in VALIDATION else "train"
