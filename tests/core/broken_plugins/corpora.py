"""Broken plugins: corpus."""

from pathlib import Path

import attrs
import numpy as np
from attrs import frozen

from accomp.core.types import Stem, Track
from broken_plugins.register import breaks


class Songs:
    """A good corpus: two splits of two songs, written when the kit asks for an example."""

    splits = ("train", "test")

    @frozen
    class Config:
        root: str

    @classmethod
    def example_config(cls, folder):
        from accomp.core.audio import io as audio

        for name in ("train0", "train1", "test0", "test1"):
            audio.write(folder / f"{name}.wav", np.zeros(800, dtype=np.float32), 8000)
        return cls.Config(str(folder))

    def __init__(self, config):

        self.root = Path(config.root)

    def tracks(self, split):
        from accomp.core.errors import DataError

        if split not in self.splits:
            raise DataError(f"no split {split}")
        return iter([self.track(split, n) for n in range(2)])

    def track(self, split, n):
        return Track(f"{split}{n}", {"piano": Stem(self.root / f"{split}{n}.wav", 0)})


@breaks("corpus", "is built by cls(config) and names its splits, once each")
class ListOfSplits(Songs):
    splits = ["train", "test"]  # noqa: RUF012


@breaks("corpus", "tracks(split) gives Track objects, every split at least one: train gave ['train0']")
class GivesNames(Songs):
    def track(self, split, n):
        return f"{split}{n}"


@breaks("corpus", "tracks(split) gives Track objects, every split at least one: test gave none")
class EmptySplit(Songs):
    def tracks(self, split):
        return iter([]) if split == "test" else super().tracks(split)


@breaks("corpus", "track ids are unique, within a split and across splits: twice: 0, 1")
class SameIds(Songs):
    def track(self, split, n):
        return attrs.evolve(super().track(split, n), id=str(n))


@breaks("corpus", "the order is the same each time")
class Shuffles(Songs):
    made: list = []  # noqa: RUF012

    def tracks(self, split):
        self.made.append(split)
        tracks = list(super().tracks(split))
        return iter(tracks[:: 1 if self.made.count(split) % 2 else -1])


@breaks(
    "corpus", "every stem can be read, and its instrument is one of the classes: raised DataError: no such audio file"
)
class MissingFile(Songs):
    def track(self, split, n):
        return Track(f"{split}{n}", {"piano": Stem(self.root / "elsewhere.wav", 0)})


@breaks(
    "corpus", "every stem can be read, and its instrument is one of the classes: stem piano of train0: instrument 18"
)
class UnknownInstrument(Songs):
    def track(self, split, n):
        return Track(f"{split}{n}", {"piano": Stem(self.root / f"{split}{n}.wav", 18)})


@breaks("corpus", "an unknown split is a DataError: gave 0 tracks")
class NothingUnknown(Songs):
    def tracks(self, split):
        return super().tracks(split) if split in self.splits else iter([])
