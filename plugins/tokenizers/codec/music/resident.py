"""All training music in memory, on the device that trains: clips are cut and stems mixed without touching a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from accomp.plugin import DataError
from accomp.plugin.sound import io as audio
from accomp.plugins.tokenizers.codec.music.clips import Clips

MOST = 12
"""Stems that are mixed at most; of a song with more, so many are drawn."""
SPREAD = 6.0
"""Standard deviation of a stem's random gain in a random mix (dB)."""
_FULL = 32768.0
_SLACK = 64  # zeros: resampling may leave a file a sample longer or shorter than the length its header promises
_AHEAD = 16


class ResidentClips:
    """16-bit music on a device, by songs: files of one folder that are equally long belong together.

    A clip is one song's stems at one place: all of them as they are, or (every other time) some of them at random
    gains.
    """

    def __init__(
        self,
        clips: Clips,
        rate: int,
        device: torch.device,
        skip: Callable[[Path, str], None],
        shares: Sequence[float] = (),
    ):
        """Reads all `clips`; `skip` is told of files that cannot be read.

        `shares`: of the clips drawn, how many come from the files of each pattern; a song counts as its first file's.
        Raises DataError where no file can be read, or none of a pattern that has a share.
        """
        room = round(sum(clips.seconds) * rate) + _SLACK * (len(clips.files) + 1)
        self.samples = torch.zeros(room, dtype=torch.int16, device=device)
        songs: dict[tuple[Path, int], list[int]] = {}
        pattern: dict[tuple[Path, int], int] = {}
        at = 0
        for path, first, sound in zip(clips.files, clips.patterns, _read_all(clips.files, rate), strict=True):
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
        """n clips [n, seconds * rate], long songs oftener; a quarter more are drawn and the most silent ones dropped.

        `rng` is a generator of the CPU. Raises ValueError for another rate than the music was read at.
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
        """Stems there are [n] -> which are taken [n, m] and at which gains [n, m] (0: not taken), m at most MOST."""
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
    """How often each song is drawn [n]: by its size, and where there are shares so that each pattern has its own."""
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
    """As `_read`, in order, by all cores; few sounds are read ahead of what is taken."""
    with ThreadPoolExecutor() as pool:
        for i in range(0, len(files), _AHEAD):
            yield from pool.map(lambda path: _read(path, rate), files[i : i + _AHEAD])


def _read(path: Path, rate: int) -> np.ndarray | str:
    """The whole file as int16 [N], or why it cannot be read."""
    try:
        sound = audio.read(path, rate)
    except DataError as error:
        return str(error)
    return np.round(sound * _FULL).clip(-_FULL, _FULL - 1).astype(np.int16)
