"""A song from its audio files to all that the store keeps of it; on this machine or on whichever worker gets it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from attrs import field, frozen

from accomp.core.data.encode import PartEncoder
from accomp.core.data.load_song import Song, Source, load_song
from accomp.core.errors import DataError
from accomp.core.spec.pairs import PairRules
from accomp.core.types import Track


@frozen(eq=False)
class SongTokens:
    """What the store keeps of a song.

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
    """(split, track) -> SongTokens, or the reason (text) why the song cannot be used.

    Can be sent to another process, where `build` gives it an encoder of its own at its first song. What it gives
    depends on the song and the settings alone.
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
        """`fingerprint`: of the tokenizer that `build` must give."""
        self._build = build
        self._encoder: PartEncoder | None = None
        self._submixes, self._seed, self._rules, self._fingerprint = submixes, seed, rules, fingerprint

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_encoder": None}

    @property
    def encoder(self) -> PartEncoder:
        """Raises DataError where another machine's files give another tokenizer."""
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
        """Both steps; the split, which has its place in messages, does not matter."""
        _, track = place
        song = self.load(track)
        return song if isinstance(song, str) else self.encode(track, song)

    def load(self, track: Track) -> Song | str:
        """The song, or why it cannot be used."""
        space = self.encoder.tokenizer.space  # what it raises is no fault of the song
        try:
            return load_song(track, space, self._rules)
        except DataError as error:
            return str(error)

    def encode(self, track: Track, song: Song) -> SongTokens:
        """Equal mixtures share a part."""
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
