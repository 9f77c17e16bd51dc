"""Tokenization of a song from its audio files to the content of the store, on this machine or on a worker."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from attrs import field, frozen

from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.load_song import Song, Source, load_song
from accomp.core.errors import DataError
from accomp.core.spec.pairs import PairRules
from accomp.core.types import Track


@frozen(eq=False)
class SongTokens:
    """The stored content of a song.

    Attributes:
        names, instruments, bandwidth, sources: as of Song.
        samples: its length at the tokenizer's rate.
        members: for each part the stems (rows) that it is the mean of; the stems themselves come first.
        pairs: (target, context, draw), parts by their rows; `draw` counts the mixtures of a target.
        codes: [P, T, K] uint16, or latents [P, T, E] float16.
        levels: [S, T] dB.
    """

    names: tuple[str, ...]
    instruments: tuple[int, ...]
    bandwidth: float
    sources: tuple[Source, ...]
    samples: int
    members: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, int, int], ...]
    codes: np.ndarray = field(repr=False)
    levels: np.ndarray = field(repr=False)


class SongTokenizer:
    """A function from (split, track) to SongTokens, or to the reason (text) why the song is unusable.

    It can be pickled; in another process `build` creates an encoder at the first song. Its result depends on the song
    and the settings alone.
    """

    def __init__(
        self,
        build: Callable[[], PartEncoder],
        *,
        submixes: int,
        seed: int,
        rules: PairRules,
        fingerprint: str,
    ):
        """`fingerprint`: of the tokenizer that `build` must return."""
        self._build = build
        self._encoder: PartEncoder | None = None
        self._submixes, self._seed, self._rules, self._fingerprint = submixes, seed, rules, fingerprint

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_encoder": None}

    @property
    def encoder(self) -> PartEncoder:
        """Build the encoder once. Raises DataError where another machine's files give another tokenizer."""
        if self._encoder is None:
            encoder = self._build()
            if encoder.tokenizer.fingerprint != self._fingerprint:
                raise DataError(
                    f"the tokenizer has the fingerprint {encoder.tokenizer.fingerprint} here, the ingest was begun "
                    f"with {self._fingerprint}; every machine needs the same weights and the same version of accomp"
                )
            self._encoder = encoder
        return self._encoder

    def __call__(self, place: tuple[str, Track]) -> SongTokens | str:
        """Run both steps; the split is part of messages only."""
        _, track = place
        song = self.load(track)
        return song if isinstance(song, str) else self.encode(track, song)

    def load(self, track: Track) -> Song | str:
        """Load the song, or return the reason why it is unusable."""
        space = self.encoder.tokenizer.space  # its errors are not caused by the song
        try:
            return load_song(track, space, self._rules)
        except DataError as error:
            return str(error)

    def encode(self, track: Track, song: Song) -> SongTokens:
        """Encode the parts; equal mixtures share one."""
        row_of: dict[tuple[str, ...], int] = {(name,): row for row, name in enumerate(song.names)}
        pairs = []
        for target in (row for row, number in enumerate(song.instruments) if self._rules.may_be_target(number)):
            others = [name for row, name in enumerate(song.names) if row != target]
            for draw in range(self._submixes):
                members = self._rules.members(others, self._seed, track.id, song.names[target], draw)
                pairs.append((target, row_of.setdefault(members, len(row_of)), draw))
        rows = tuple(tuple(song.names.index(name) for name in part) for part in row_of)
        return SongTokens(
            names=song.names,
            instruments=song.instruments,
            bandwidth=song.bandwidth,
            sources=song.sources,
            samples=song.stems.shape[1],
            members=rows,
            pairs=tuple(pairs),
            codes=self.encoder(song.stems, rows),
            levels=song.levels,
        )
