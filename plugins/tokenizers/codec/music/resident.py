"""Training music in the memory of the training device; clips and mixes are drawn without file access."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from accomp.plugin import Advance, DataError
from accomp.plugin.sound import io as audio
from accomp.plugins.tokenizers.codec.music.clips import Clips

MOST = 12
"""Largest number of stems in a mix; more are subsampled."""
SPREAD = 6.0
"""Standard deviation of a stem's random gain in a random mix (dB)."""
_FULL = 32768.0
_SLACK = 64  # zeros: resampling may change the length in the header by a sample
_AHEAD = 16


class ResidentClips:
    """16-bit music on a device, by songs: files of one folder with equal length are stems of a song.

    A clip is an excerpt of a song: all stems unchanged or, with probability 1/2, some stems at random gains.
    """

    def __init__(
        self,
        clips: Clips,
        rate: int,
        device: torch.device,
        skip: Callable[[Path, str], None],
        advance: Advance,
        shares: Sequence[float] = (),
    ):
        """Read all `clips`; `skip` receives unreadable files, and `advance` is called with each file.

        `shares`: share of clips from the files of each pattern; a song has the pattern of its first file. Raises
        DataError if no file, or no file of a pattern with a share, can be read.
        """
        room = round(sum(clips.seconds) * rate) + _SLACK * (len(clips.files) + 1)
        self.samples = torch.zeros(room, dtype=torch.int16, device=device)
        songs: dict[tuple[Path, int], list[int]] = {}
        pattern: dict[tuple[Path, int], int] = {}
        at = 0
        for path, first, sound in zip(clips.files, clips.patterns, _read_all(clips.files, rate), strict=True):
            advance(note=path.stem)
            if not isinstance(sound, str) and at + len(sound) + _SLACK > room:
                sound = f"longer than its header promises @ {path}"
            if isinstance(sound, str):
                skip(path, sound)
                continue
            song = (path.parent, len(sound))
            songs.setdefault(song, []).append(at)
            pattern.setdefault(song, first)
            self.samples[at : at + len(sound)] = torch.from_numpy(sound).to(device)
            at += len(sound)
        if not songs:
            raise DataError(f"not one of {len(clips.files)} audio files can be read")
        self.stems = torch.tensor([len(begins) for begins in songs.values()])
        self.lengths = torch.tensor([length for _, length in songs])
        self.begins = nn.utils.rnn.pad_sequence([torch.tensor(begins) for begins in songs.values()], batch_first=True)
        sizes = (self.stems * self.lengths).double()
        self.weights = _weights(sizes, torch.tensor([pattern[song] for song in songs]), shares)
        self.rate = rate

    def draw(
        self, n: int, seconds: float, rate: int, rng: torch.Generator, skip: Callable[[Path, str], None]
    ) -> Tensor:
        """n clips [n, seconds * rate], drawn in proportion to song length; 25 % extra, the most silent dropped.

        `rng` is a CPU generator. Raises ValueError for a rate other than that of the music.
        """
        if rate != self.rate:
            raise ValueError(f"the music is at {self.rate} Hz, not {rate}")
        length, more = round(seconds * rate), n + -(-n // 4)
        song = torch.multinomial(self.weights, more, replacement=True, generator=rng)
        room = (self.lengths[song] - length + 1).clamp(min=1)
        start = (torch.rand(more, generator=rng, dtype=torch.float64) * room).long()
        stems, gains = self._mixes(self.stems[song], rng)
        where = self.begins[song].gather(1, stems) + start[:, None]
        where, gains = where.to(self.samples.device), gains.to(self.samples.device)
        steps = torch.arange(length, device=self.samples.device)
        mix = torch.zeros(more, length, device=self.samples.device)
        for stem in range(stems.shape[1]):
            sound = self.samples[where[:, stem, None] + steps]
            mix = torch.addcmul(mix, sound.float(), gains[:, stem, None] / _FULL)
        silent = (mix.abs().amax(1) < 1e-3).long()
        return mix[silent.argsort(stable=True)[:n]]

    def _mixes(self, have: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Number of stems [n] -> chosen stems [n, m] and their gains [n, m] (0: unused), m at most MOST."""
        n, most = len(have), int(have.max())
        order = torch.rand(n, most, generator=rng)
        order = order.masked_fill(torch.arange(most) >= have[:, None], 2.0).argsort(1)[:, :MOST]
        whole = torch.rand(n, generator=rng) < 0.5
        some = (torch.rand(n, generator=rng).square() * have).long() + 1
        taken = torch.where(whole, have, some)
        gains = 10 ** (torch.randn(n, order.shape[1], generator=rng) * SPREAD / 20)
        gains = torch.where(whole[:, None], torch.ones(()), gains)
        gains = gains.masked_fill(torch.arange(order.shape[1]) >= taken[:, None], 0.0)
        return order.minimum(have[:, None] - 1), gains


def _weights(sizes: Tensor, patterns: Tensor, shares: Sequence[float]) -> Tensor:
    """Return the sampling weight of each song [n]: its size, scaled to the shares of patterns if given."""
    if not shares:
        return sizes
    weights = torch.zeros_like(sizes)
    for i, share in enumerate(shares):
        these = patterns == i
        if share and not these.any():
            raise DataError(
                f"no file that can be read matches the pattern {i + 1} of [data] train, whose share is {share}"
            )
        weights[these] = share * sizes[these] / sizes[these].sum()
    return weights


def _read_all(files: Sequence[Path], rate: int) -> Iterator[np.ndarray | str]:
    """Read files in order on all cores with a small prefetch."""
    with ThreadPoolExecutor() as pool:
        for i in range(0, len(files), _AHEAD):
            yield from pool.map(lambda path: _read(path, rate), files[i : i + _AHEAD])


def _read(path: Path, rate: int) -> np.ndarray | str:
    """Read a whole file as int16 [N]; return an error message on failure."""
    try:
        sound = audio.read(path, rate)
    except DataError as error:
        return str(error)
    return np.round(sound * _FULL).clip(-_FULL, _FULL - 1).astype(np.int16)
