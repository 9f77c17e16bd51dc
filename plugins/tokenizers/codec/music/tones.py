"""Sounds made by formula for a codec to train on: tones, chords, glides, clicks and bursts of noise.

Music has few isolated, sharp sounds. A codec that is trained on music alone returns a sine at another pitch, or not at
all, and blurs sharp sounds in music as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from attrs import frozen
from torch import Tensor

from accomp.plugins.tokenizers.codec.music.clips import Music

NOTES, PARTIALS = 4, 12
"""Of a clip, at most."""
LOWEST, HIGHEST = 24, 103
"""MIDI notes of fundamentals: 33 Hz to 3.1 kHz."""
DEEPEST, DEEP, MANY = 21, 57, 40
"""MIDI notes of a bass (28 to 220 Hz), and its partials, at most."""
LONE = 40.0, 8000.0
"""Hz of a lone sine."""
SHARES = (0.4, 0.1, 0.15, 0.25, 0.1)
"""Of clips with notes, with glides, with clicks and bursts, with a bass, with a lone sine."""
LEVELS = (-50.0, -3.0)
"""Peaks of clips (dB of full scale)."""
SHARPEST = 0.9
"""Of half the sample rate: partials above are left out."""


@frozen
class WithTones:
    """Music of which each clip is one of `tones` instead, of the kinds in SHARES, with a chance of `share`."""

    music: Music
    share: float

    def draw(
        self, n: int, seconds: float, rate: int, rng: torch.Generator, skip: Callable[[Path, str], None]
    ) -> Tensor:
        """See Music."""
        made = int((torch.rand(n, generator=rng) < self.share).sum())
        parts = [tones(made, round(seconds * rate), rate, rng)] if made else []
        if n > made:
            heard = self.music.draw(n - made, seconds, rate, rng, skip)
            parts = [part.to(heard) for part in parts] + [heard]
        return torch.cat(parts)


def tones(n: int, samples: int, rate: int, rng: torch.Generator, shares: Sequence[float] = SHARES) -> Tensor:
    """n clips [n, samples] at `rate` Hz; `rng` is a generator of the CPU, `shares` are those of the kinds (see SHARES).

    Notes are those of equal temperament at A4 = 440 Hz, half of them detuned by up to a quarter tone. They have 1 to 12
    partials that fall by 1 to 24 dB an octave, begin before the clip or in it, and last or die away; some sway. A bass
    is one low note, or two one after the other, of up to 40 partials.
    """
    kind = torch.multinomial(torch.tensor(shares), n, replacement=True, generator=rng)
    time = torch.arange(samples) / rate
    sound = torch.where((kind == 2)[:, None], _strokes(n, samples, rate, rng), _notes(n, kind == 1, time, rate, rng))
    sound[kind == 3] = _bass(int((kind == 3).sum()), time, rate, rng)
    sound[kind == 4] = _lone(int((kind == 4).sum()), time, rate, rng)
    peak = 10 ** (_between(*LEVELS, (n, 1), rng) / 20)
    return sound * (peak / sound.abs().amax(1, keepdim=True).clamp(min=1e-6))


def _between(low: float, high: float, size: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(size, generator=rng)


def _bass(n: int, time: Tensor, rate: int, rng: torch.Generator) -> Tensor:
    """One low note a clip [n, N], which in half of them gives way to another at a random moment."""
    notes = _between(DEEPEST, DEEP, (n, 2), rng)
    notes = torch.where(torch.rand(n, 1, generator=rng) < 0.5, notes.round(), notes)
    change = _between(0.0, 2.0, (n, 1), rng) * time[-1]
    later = time >= change
    hertz = 440 * 2 ** ((torch.where(later, notes[:, 1:], notes[:, :1]) - 69) / 12)
    since = torch.where(later, time - change, time + _between(0.0, 0.5, (n, 1), rng))
    attack = 10 ** _between(-2.7, -1.7, (n, 1), rng)
    envelope = (since / attack).clamp(0, 1) * 10 ** (-_between(0.0, 40.0, (n, 1), rng) * since / 20)
    x = _phase(hertz, rate)
    falls = _between(2.0, 18.0, (n, 1), rng) / 6.02
    before, wave, twice = torch.zeros(()), x.sin(), 2 * x.cos()
    total = wave.clone()
    for h in range(2, MANY + 1):
        before, wave = wave, twice * wave - before
        size = h**-falls * 10 ** (_between(-6.0, 6.0, (n, 1), rng) / 20)
        total.addcmul_(size, wave)
    return total * envelope


def _notes(n: int, glides: Tensor, time: Tensor, rate: int, rng: torch.Generator) -> Tensor:
    """Chords of 1 to NOTES notes; where `glides` [n] one note that moves by up to three octaves a second."""
    note = torch.randint(LOWEST, HIGHEST + 1, (n, NOTES), generator=rng).float()
    detuned = torch.rand(n, 1, generator=rng) < 0.5
    note += torch.where(detuned, _between(-0.5, 0.5, (n, NOTES), rng), torch.zeros(()))
    count = torch.randint(1, NOTES + 1, (n, 1), generator=rng).where(torch.rand(n, 1, generator=rng) < 0.6, 1)
    count = count.masked_fill(glides[:, None], 1)
    hertz = _hertz(440 * 2 ** ((note - 69) / 12), glides, time, rng)
    x = _phase(hertz, rate)
    envelope = _envelope((n, NOTES), time, rng) * (torch.arange(NOTES) < count)[..., None]
    falls = _between(1.0, 24.0, (n, NOTES, 1), rng) / 6.02
    pure = torch.rand(n, 1, 1, generator=rng) < 0.3
    before, wave, twice = torch.zeros(()), x.sin(), 2 * x.cos()
    total = envelope * wave
    for h in range(2, PARTIALS + 1):
        before, wave = wave, twice * wave - before  # sin h x = 2 cos x sin (h - 1) x - sin (h - 2) x
        size = (h**-falls * 10 ** (_between(-6.0, 6.0, (n, NOTES, 1), rng) / 20)).masked_fill(pure, 0.0)
        size = size.masked_fill(hertz[..., -1:].maximum(hertz[..., :1]) * h > SHARPEST * rate / 2, 0.0)
        total.addcmul_(size * envelope, wave)
    return total.sum(1)


def _lone(n: int, time: Tensor, rate: int, rng: torch.Generator) -> Tensor:
    """One sine a clip [n, N]."""
    low, high = LONE
    hertz = _hertz(low * (high / low) ** torch.rand(n, 1, generator=rng), torch.zeros(n, dtype=torch.bool), time, rng)
    return _phase(hertz[:, 0], rate).sin() * _envelope((n, 1), time, rng)[:, 0]


def _phase(hertz: Tensor, rate: int) -> Tensor:
    """Frequencies [..., N] -> phases of sines that have them [..., N], 0 to 2 pi."""
    return (2 * math.pi * ((hertz.double() / rate).cumsum(-1) % 1.0)).float()


def _hertz(fundamental: Tensor, glides: Tensor, time: Tensor, rng: torch.Generator) -> Tensor:
    """Frequencies [n, notes, N] around the fundamentals [n, notes]: glides, or some that sway by up to a third tone."""
    n = len(glides)
    slope = _between(-3.0, 3.0, (n, 1, 1), rng) * glides[:, None, None]
    sway = _between(0.0, 0.03, (n, 1, 1), rng) * (torch.rand(n, 1, 1, generator=rng) < 0.15)
    beat = _between(3.0, 7.0, (n, 1, 1), rng) * time + torch.rand(n, 1, 1, generator=rng)
    octaves = slope * (time - time.mean()) + sway * torch.sin(2 * math.pi * beat)
    return fundamental[..., None] * 2**octaves


def _envelope(size: tuple[int, int], time: Tensor, rng: torch.Generator) -> Tensor:
    """[*size, N]: silence, an attack of 2 to 50 ms, then a fall of 0 to 60 dB a second; half begin before the clip."""
    length = float(time[-1])
    since = time - _between(-length, length, size, rng)[..., None]
    attack = 10 ** _between(-2.7, -1.3, size, rng)[..., None]
    fall = _between(0.0, 60.0, size, rng)[..., None] * (torch.rand(*size, 1, generator=rng) < 0.6)
    return (since / attack).clamp(0, 1) * 10 ** (-fall * since.clamp(min=0) / 20)


def _strokes(n: int, samples: int, rate: int, rng: torch.Generator) -> Tensor:
    """Up to 12 impulses, or bursts of noise that die away within 2 to 500 ms, at any places."""
    count = 12
    at = torch.randint(samples, (n, count), generator=rng)
    size = 10 ** (_between(-30.0, 0.0, (n, count), rng) / 20)
    size = size * (torch.rand(n, count, generator=rng) < torch.rand(n, 1, generator=rng))
    clicks = torch.zeros(n, samples).scatter_(1, at, size)
    fall = 10 ** _between(-2.7, -0.3, (n, 1), rng)
    decay = torch.exp(-torch.arange(samples) / rate / fall) * torch.randn(n, samples, generator=rng) * 0.3
    length = 2 * samples
    bursts = torch.fft.irfft(torch.fft.rfft(clicks, length) * torch.fft.rfft(decay, length), length)[:, :samples]
    return torch.where(torch.rand(n, 1, generator=rng) < 0.5, clicks, bursts)
