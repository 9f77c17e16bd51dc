"""Augmentation of clips by level, equaliser and speed, on the device of the clips."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BANDS = 8
"""Points, evenly spaced in octaves below half the sample rate, between which an equaliser's gain is interpolated."""


def vary(clips: Tensor, levels: tuple[float, float], equaliser: float, rng: torch.Generator) -> Tensor:
    """clips [n, N] -> [n, N], each at a random gain within `levels` (dB), softer where its peak would pass 1.

    `equaliser` is the standard deviation (dB) of each clip's random gain at BANDS frequencies; 0 leaves the sound as
    it is. The filter has no delay and acts on the clip as a whole. `rng` is a generator of the CPU.
    """
    low, high = levels
    gain = 10 ** ((torch.rand(len(clips), 1, generator=rng) * (high - low) + low) / 20)
    clips = clips * gain.to(clips)
    if equaliser:
        points = torch.randn(len(clips), BANDS, generator=rng) * equaliser
        clips = _equalised(clips, points.to(clips))
    return clips / clips.abs().amax(1, keepdim=True).clamp(min=1.0)


def at_speed(clips: Tensor, samples: int) -> Tensor:
    """clips [n, N] -> [n, samples]: the same sound at another speed, and so another pitch; its ends meet."""
    spectrum = torch.fft.rfft(clips)
    kept = spectrum[:, : min(samples, clips.shape[1]) // 2 + 1]
    return torch.fft.irfft(kept, n=samples) * (samples / clips.shape[1])


def _equalised(clips: Tensor, points: Tensor) -> Tensor:
    """clips [n, N], gains in dB [n, BANDS] at 1, 1/2, 1/4 ... of half the sample rate, the last one also below that."""
    spectrum = torch.fft.rfft(clips)
    bins = spectrum.shape[-1]
    octave = torch.arange(bins, device=clips.device).clamp(min=1).div(bins - 1).log() / -math.log(2.0)
    octave = octave.clamp(0, BANDS - 1)
    left = octave.floor().clamp(max=BANDS - 2).long()
    share = octave - left
    decibel = points[:, left] * (1 - share) + points[:, left + 1] * share
    return torch.fft.irfft(spectrum * 10 ** (decibel / 20), n=clips.shape[-1])
