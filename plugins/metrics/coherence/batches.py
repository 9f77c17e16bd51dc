"""Training batches of coherence: contrastive pairs with hard negatives.

A batch has groups. The stems of a group are of one instrument class, from several songs, each at two nearby times of
its song. The task is to match each context with its own stem and vice versa. Neither the instrument missing in the
context nor the song identifies the match, since the same song at another time is a negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import librosa
import numpy as np
import torch
from attrs import field, frozen
from torch import Tensor, nn

from accomp.plugins.metrics.coherence.hpss_mels import FLOOR, FRAMES, MELS
from accomp.plugins.metrics.coherence.network import POOLED
from accomp.plugins.metrics.coherence.songs import Stretch

_SOUNDING = 0.5
"""Smallest share of a window in which stem and context must be audible."""
_TRIES = 20
_KNOTS = 6


@frozen
class Variation:
    """Augmentation: tempo and pitch common to a batch, spectral colour drawn per sound.

    Attributes:
        tempo: largest factor up or down; pitch: largest transposition in semitones.
        plain: share of batches without tempo or pitch change.
        colour: largest smooth gain over frequency, dB up or down.
        floor: highest noise floor (dB under the maximum); drawn between it and FLOOR.
    """

    tempo: float = 1.2
    pitch: float = 5.0
    plain: float = 0.3
    colour: float = 5.0
    floor: float = -45.0


@frozen(eq=False)
class Batch:
    """contexts, stems [B, 2, MELS, FRAMES // POOLED] (dB, pooled as the network does); groups [B]."""

    contexts: Tensor
    stems: Tensor
    groups: Tensor


@frozen
class _Source:
    """A stem of a song excerpt."""

    stretch: Stretch
    stem: int


@frozen(eq=False)
class Pairs:
    """Sampler of batches from song excerpts.

    Attributes:
        by_class: instrument class -> song -> its stems.
        shift: range (s) of the distance between the two times of one song.
    """

    by_class: dict[int, dict[str, list[_Source]]]
    rng: np.random.Generator
    variation: Variation = field(factory=Variation)
    shift: tuple[float, float] = (0.1, 8.0)

    @classmethod
    def of(cls, stretches: Sequence[Stretch], rng: np.random.Generator, variation: Variation | None = None) -> Pairs:
        """Index all target stems; classes with a single song are omitted, as they lack negatives."""
        found: dict[int, dict[str, list[_Source]]] = {}
        for stretch in stretches:
            for number, instrument in enumerate(stretch.classes):
                songs = found.setdefault(int(instrument), {})
                songs.setdefault(stretch.song, []).append(_Source(stretch, number))
        kept = {name: songs for name, songs in sorted(found.items()) if len(songs) > 1}
        return cls(kept, rng, variation or Variation())

    def draw(self, groups: int, songs: int) -> Batch:
        """Draw `groups` groups of `songs` songs (fewer if the class has fewer) at two times each."""
        classes = list(self.by_class)
        weights = np.array([len(self.by_class[name]) for name in classes], dtype=float) ** 0.7
        bend = self._bend()
        cuts, numbers = [], []
        for group in range(groups):
            own = self.by_class[classes[self.rng.choice(len(classes), p=weights / weights.sum())]]
            for song in self.rng.permutation(list(own))[:songs]:
                two = self._two_times(own[song], bend)
                cuts += two
                numbers += [group] * len(two)
        contexts, stems = (self._heard(np.stack(side), bend) for side in zip(*cuts, strict=True))
        return Batch(contexts, stems, torch.tensor(numbers))

    def _two_times(self, sources: Sequence[_Source], bend: Bend) -> list[tuple[np.ndarray, np.ndarray]]:
        """(context, stem) levels [2, MELS, FRAMES] at two nearby times where both are audible."""
        low, high = np.log(self.shift)
        for _ in range(_TRIES):
            source = sources[int(self.rng.integers(len(sources)))]
            stem = source.stretch.stems[source.stem]
            last = stem.shape[-1] - int(bend.frames[-1]) - 1
            if last < 0:
                continue
            start = int(self.rng.integers(last + 1))
            offset = round(100 * float(np.exp(self.rng.uniform(low, high)))) * int(self.rng.choice([-1, 1]))
            places = [place for place in (start, start + offset) if self._sounds(source, place, last)]
            if places:
                mixture = self._mixture(source)
                return [(mixture[..., place + bend.frames], stem[..., place + bend.frames]) for place in places]
        return []

    def _mixture(self, source: _Source) -> np.ndarray:
        """Return the mixture of all other stems or, with probability 1/3, a random mixture without the stem."""
        stretch = source.stretch
        free = np.flatnonzero(~stretch.members[:, source.stem])
        if len(free) and self.rng.random() < 1 / 3:
            mixture: np.ndarray = stretch.mixtures[self.rng.choice(free)]
        else:
            mixture = stretch.others[source.stem]
        return mixture

    def _sounds(self, source: _Source, start: int, last: int) -> bool:
        if not 0 <= start <= last:
            return False
        together = source.stretch.sounding[source.stem, start // 2 : (start + FRAMES) // 2]
        return bool(together.mean() >= _SOUNDING)

    def _bend(self) -> Bend:
        if self.rng.random() < self.variation.plain:
            return Bend.by(1.0, 0.0)
        tempo, pitch = np.log(self.variation.tempo), self.variation.pitch
        return Bend.by(float(np.exp(self.rng.uniform(-tempo, tempo))), float(self.rng.uniform(-pitch, pitch)))

    def _heard(self, levels: np.ndarray, bend: Bend) -> Tensor:
        """Augment levels [B, 2, MELS, FRAMES] (dB): pitch, individual colour, relative to the maximum, pooled."""
        knots = self.rng.uniform(-1, 1, (len(levels), _KNOTS)) * self.rng.uniform(
            0, self.variation.colour, (len(levels), 1)
        )
        at = np.linspace(0, _KNOTS - 1, MELS)
        colour = np.stack([np.interp(at, np.arange(_KNOTS), row) for row in knots]).astype(np.float32)
        floors = np.where(
            self.rng.random(len(levels)) < 0.5, self.rng.uniform(FLOOR, self.variation.floor, len(levels)), FLOOR
        )
        heard = torch.from_numpy(levels.astype(np.float32))
        if bend.rows is not None:
            heard = torch.einsum("nm,bcmt->bcnt", torch.from_numpy(bend.rows), heard)
        heard = heard + torch.from_numpy(colour)[:, None, :, None]
        heard = heard - heard.amax((2, 3), keepdim=True)
        heard = torch.maximum(heard, torch.from_numpy(floors.astype(np.float32))[:, None, None, None])
        return nn.functional.avg_pool2d(heard, (1, POOLED))


@frozen(eq=False)
class Bend:
    """Tempo and pitch change of mel levels by resampling both axes.

    Attributes:
        frames: [FRAMES], source index of each frame.
        rows: [MELS, MELS], weights of the old bands in each new band; None without pitch change.
    """

    frames: np.ndarray
    rows: np.ndarray | None

    @classmethod
    def by(cls, tempo: float, semitones: float) -> Bend:
        """`tempo`: a factor, above 1 is faster."""
        frames = np.round(np.arange(FRAMES) * tempo).astype(int)
        if semitones == 0.0:
            return cls(frames, None)
        centres = librosa.mel_frequencies(MELS + 2, fmin=60.0, fmax=7800.0)[1:-1]
        from_ = np.interp(centres / 2 ** (semitones / 12), centres, np.arange(MELS))
        rows = np.maximum(0.0, 1.0 - np.abs(from_[:, None] - np.arange(MELS)))
        return cls(frames, rows.astype(np.float32))
