"""`accomp bench loader`: reading of clips from a token store, as in training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from attrs import field, frozen
from attrs import validators as v

from accomp.core.bench.made_up_songs import Songs, bytes_of, write
from accomp.core.bench.reading import Reading
from accomp.core.bench.records.record import BenchRow
from accomp.core.bench.subject import BenchModel
from accomp.core.console import progress
from accomp.core.data.store_commands import EXAMPLE_SECONDS, REFERENCE_BYTES

REFERENCE_MUSIC = 326.0 * EXAMPLE_SECONDS
"""Seconds of music a second that the published code reads with two workers, on two cores: 326 examples of 20 s."""


@frozen
class Loader:
    """Examples a second and bytes an example, of the spec's clip length and batch, from a store of synthetic songs.

    The store's size is compared with the published code's, which stores ten levels of int64 for each example.

    Attributes:
        songs: content of the store.
        processes: concurrent readers, as the ranks of a training, each with one thread.
        seconds: of reading.
    """

    default: ClassVar[str] = "quickstart"
    threads: ClassVar[int | None] = 1

    songs: Songs = field(factory=Songs)
    processes: int = field(default=2, validator=v.ge(1))
    seconds: float = field(default=10.0, validator=v.gt(0))

    def parts(self) -> Sequence[Loader]:
        """None: nothing is compiled."""
        return []

    def compile(self, subject: BenchModel) -> None:
        """Do nothing."""

    def lines(self, subject: BenchModel) -> Iterator[BenchRow]:
        """Yield one row."""
        spec, space = subject.spec, subject.space
        with tempfile.TemporaryDirectory(prefix="accomp-loader-") as folder:
            path = Path(folder) / "store.zarr"
            with progress("make up songs", None):
                write(path, space, spec.pairs, spec.store.submixes, self.songs)
            clip = spec.train.frames * subject.frame
            reading = Reading(
                path, space, spec.train.frames, spec.train.batch, spec.pairs, self.processes, self.seconds
            )
            examples = len(reading.loader(0))
            whole, frame = bytes_of(path)
            wall, cpu = reading.rates()
        figures = {
            "examples_s": wall,
            "examples_cpu_s": cpu,
            "music_s": wall * clip,
            "x_reference_rate": wall * clip / REFERENCE_MUSIC,
            "example_kb": whole / examples / 1000,
            "read_kb": 2 * frame * spec.train.frames / 1000,
            "of_reference_bytes": whole / examples / (REFERENCE_BYTES * clip / EXAMPLE_SECONDS),
        }
        codes = "incompressible codes" if self.songs.incompressible else "codes as skewed as music's"
        size = f"{self.songs.songs} songs of {self.songs.minutes:g} min, {self.songs.stems} stems"
        case = f"{self.processes} processes, clips of {clip:g} s, {size}, {codes}"
        yield subject.line(self, case, figures)
