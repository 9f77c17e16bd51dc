"""Calibration of the figures by known damage: changes of the original that are measured as codecs are.

They have no codes. They show how sensitive a figure is: exact magnitudes with random phases hardly change a log-mel
distance, another song hardly changes a distance between whole sets.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from attrs import field, frozen
from torch import Tensor

from accomp.plugin import DataError
from accomp.plugins.tokenizers.codec.quality.excerpts import Music, Stretch
from accomp.plugins.tokenizers.codec.quality.measures import Distances, ExcerptScores
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import mel_filters

WINDOW, STEP = 0.040, 0.010
"""Seconds: the windows that keep exact magnitudes; 1280 and 320 samples at 32 kHz."""
MEL_WINDOW, MEL_STEP, BANDS = 0.080, 0.020, 80
"""Seconds, and bands, of the mel spectrogram; 2560 and 640 samples at 32 kHz."""
ROUNDS = 32
"""Of Griffin-Lim."""
_SEED = 0

Change = Callable[[Tensor, int], Tensor]
"""(sound [N], rate in Hz) -> sound [N]"""


@frozen(eq=False)
class Calibration:
    """A change of the original at `sample_rate` Hz, under its name on the page, without delay."""

    label: str
    sample_rate: int
    change: Callable[[Stretch, Music, int], Tensor] = field(repr=False)
    distances: Distances = field(repr=False)
    delay: int = 0

    def score(self, excerpt: Stretch, music: Music) -> tuple[ExcerptScores, Tensor]:
        """Scores of an excerpt after the change, and the changed sound [N]. Raises DataError."""
        original = excerpt.read(self.sample_rate)
        changed = self.change(excerpt, music, self.sample_rate)
        numbers, energies = self.distances(changed, original)
        return ExcerptScores(excerpt.name, len(original) / self.sample_rate, numbers, energies), changed


def calibrations(rate: int, music: Music) -> list[Calibration]:
    """All calibrations at `rate` Hz; "another song" only where there is another one."""
    distances = Distances(rate)
    changes: dict[str, Change] = {
        "noise 30 dB below": lambda sound, _: noisy(sound, 30.0),
        "noise 15 dB below": lambda sound, _: noisy(sound, 15.0),
        "exact magnitudes, random phases": random_phases,
        f"{BANDS} mel bands, Griffin-Lim": mel_griffin_lim,
    }
    found = [Calibration(label, rate, _of_itself(change), distances) for label, change in changes.items()]
    if len({_song(one) for one in music.excerpts}) > 1:
        found.append(Calibration("another song", rate, another_song, distances))
    return found


def noisy(sound: Tensor, below: float) -> Tensor:
    """sound [N] and white noise whose RMS lies `below` dB below its own."""
    noise = torch.randn(sound.shape, generator=torch.Generator().manual_seed(_SEED))
    return sound + noise * (sound.square().mean() / noise.square().mean()).sqrt() * 10 ** (-below / 20)


def random_phases(sound: Tensor, rate: int) -> Tensor:
    """sound [N] -> [N]: its STFT's magnitudes (windows of 40 ms, every 10 ms) with phases drawn at random."""
    window, step = round(WINDOW * rate), round(STEP * rate)
    return _sound(_with_random_phases(_spectrum(sound, window, step).abs()), window, step, len(sound))


def mel_griffin_lim(sound: Tensor, rate: int) -> Tensor:
    """sound [N] -> [N]: from 80 mel bands every 20 ms, by their pseudo-inverse (at least 0) and Griffin-Lim.

    Griffin and Lim, "Signal estimation from modified short-time Fourier transform" (IEEE TASSP 1984), 32 rounds from
    random phases, without momentum.
    """
    window, step = round(MEL_WINDOW * rate), round(MEL_STEP * rate)
    filters = mel_filters(BANDS, window // 2 + 1, rate)
    bands = filters @ _spectrum(sound, window, step).abs()
    magnitudes = (torch.linalg.pinv(filters) @ bands).clamp(min=0)
    spectrum = _with_random_phases(magnitudes)
    for _ in range(ROUNDS):
        again = _spectrum(_sound(spectrum, window, step, len(sound)), window, step)
        spectrum = torch.polar(magnitudes, again.angle())
    return _sound(spectrum, window, step, len(sound))


def another_song(excerpt: Stretch, music: Music, rate: int) -> Tensor:
    """The next excerpt of the group that is of another song, else the next of all, [N] at `rate` Hz; as long as this.

    Raises DataError where there is no other song.
    """
    at = music.excerpts.index(excerpt)
    later = [*music.excerpts[at + 1 :], *music.excerpts[:at]]
    others = [one for one in later if _song(one) != _song(excerpt)]
    if not others:
        raise DataError(f"there is no other song than {_song(excerpt)} @ {music.about}")
    sound = next((one for one in others if one.group == excerpt.group), others[0]).read(rate)
    n = len(excerpt.read(rate))
    return torch.nn.functional.pad(sound, (0, max(0, n - len(sound))))[:n]


def _song(excerpt: Stretch) -> str:
    return excerpt.sound.song or excerpt.name


def _of_itself(change: Change) -> Callable[[Stretch, Music, int], Tensor]:
    return lambda excerpt, _, rate: change(excerpt.read(rate), rate)


def _spectrum(sound: Tensor, window: int, step: int) -> Tensor:
    return torch.stft(sound, window, step, window=torch.hann_window(window), return_complex=True)


def _sound(spectrum: Tensor, window: int, step: int, samples: int) -> Tensor:
    return torch.istft(spectrum, window, step, window=torch.hann_window(window), length=samples)


def _with_random_phases(magnitudes: Tensor) -> Tensor:
    turns = torch.rand(magnitudes.shape, generator=torch.Generator().manual_seed(_SEED))
    return torch.polar(magnitudes, 2 * torch.pi * turns)
