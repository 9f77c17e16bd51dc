"""Distances between music and its reconstruction, as in the codec literature, and a threshold of silence.

    mel distance    sum over windows w of  mean |log10 m'_w - log10 m_w|     m: mel magnitudes, at least 1e-5
                    w = 32, 64, 128, 256, 512, 1024, 2048 samples, hop w / 4, with 5, 10, 20, 40, 80, 160, 320 mel bands
    STFT distance   sum over w = 2048, 512 of  mean |log10 S'_w^2 - log10 S_w^2| + mean |S'_w - S_w|     S: magnitudes
    SI-SDR          10 log10(|a s|^2 / |y - a s|^2) dB,  a = <y, s> / <s, s>,  y decoded and s original, without means

The first two are those of "High-Fidelity Audio Compression with Improved RVQGAN" (arXiv 2306.06546, sections 3.5 and
4.3), computed by that paper's own code, the dac package's, as its 44.1 kHz model is configured; here at the codec's own
sample rate, and at the level the music has. The third is Le Roux et al., "SDR, half-baked or well done?" (ICASSP 2019).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from accomp.plugins.tokenizers.codec.networks.quantizer import quiet_import

SILENT_DB = -80.0
"""RMS, dB re full scale, below which a reference counts as silent: it has no SI-SDR."""
LIMIT_DB = 100.0
"""Bounds of SI-SDR, which is infinite for a perfect copy and for a sound without any of the original."""
SHORTEST = 2048
"""Smallest length of both sounds, in samples."""


class LiteratureDistance:
    """Mel and STFT distance, ready for many sounds of one sample rate (Hz)."""

    def __init__(self, rate: int):
        """Raises PluginError where the dac package cannot be imported."""
        with quiet_import("measuring a codec"):
            from audiotools import AudioSignal
            from dac.nn.loss import MelSpectrogramLoss, MultiScaleSTFTLoss
        self._signal: Callable[..., Any] = AudioSignal
        self._rate = rate
        windows = [2**n for n in range(5, 12)]
        self._mel = MelSpectrogramLoss(
            n_mels=[5, 10, 20, 40, 80, 160, 320], window_lengths=windows, mel_fmin=[0.0] * 7, mel_fmax=[None] * 7,
            pow=1.0, clamp_eps=1e-5, mag_weight=0.0,
        )  # fmt: skip
        self._stft = MultiScaleSTFTLoss(window_lengths=[2048, 512])

    @torch.no_grad()
    def __call__(self, decoded: Tensor, original: Tensor) -> dict[str, float]:
        """Both [N], N at least SHORTEST -> {"mel": ..., "stft": ...}, 0 for equal sounds."""
        y, x = (self._signal(sound[None, None].float().cpu(), self._rate) for sound in (decoded, original))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # AudioSignal warns whenever another window is set
            return {"mel": float(self._mel(y, x)), "stft": float(self._stft(y, x))}


def si_sdr(decoded: Tensor, original: Tensor) -> float | None:
    """Both [N] -> dB, within LIMIT_DB; None where the original is silent."""
    if level_db(original) < SILENT_DB:
        return None
    y, s = (sound.double().cpu() - sound.double().cpu().mean() for sound in (decoded, original))
    scaled = (y @ s) / (s @ s) * s
    signal, noise = float(scaled.square().sum()), float((y - scaled).square().sum())
    if signal <= noise * 10 ** (-LIMIT_DB / 10):
        return -LIMIT_DB
    return LIMIT_DB if noise <= signal * 10 ** (-LIMIT_DB / 10) else 10 * math.log10(signal / noise)


def level_db(sound: Tensor) -> float:
    """RMS of any shape, dB re full scale; -200 for digital silence."""
    return 20 * math.log10(max(float(sound.double().square().mean().sqrt()), 1e-10))
