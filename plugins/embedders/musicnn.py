"""Embeddings of musicnn, a music tagger; weights are included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torchaudio
from attrs import field, frozen
from attrs import validators as v
from safetensors.torch import load

from accomp.core.errors import PluginError
from accomp.core.files import hash_file
from accomp.plugins.embedders.musicnn_network import MELS, network_of

RATE, HOP, FFT = 16000, 256, 512
PATCH = 187
"""Frames of a patch: 3 s, as in training."""
BATCH = 32
SHIPPED = Path(__file__).parent / "weights" / "musicnn.safetensors"


class Musicnn:
    """Penultimate layer of musicnn (200 units) for each 3 s, trained on MagnaTagATune (ISC licence).

    As in the package musicnn, except that log-mel values are in single precision; there they are rounded to half
    precision, which overflows for loud music.
    """

    sample_rate = RATE

    @frozen
    class Config:
        """`hop`: seconds between patches. `weights`: a file in the format of the included one."""

        hop: float = field(default=1.5, validator=v.ge(HOP / RATE))
        weights: str | None = None

    def __init__(self, config: Config):
        """Raises PluginError if the weights are missing or not of a musicnn."""
        path = SHIPPED if config.weights is None else Path(config.weights)
        if not path.is_file():
            raise PluginError(f"no such file @ embedder musicnn: weights = '{path}'; omit it to use the included ones")
        self._hop = round(config.hop * RATE / HOP)
        try:
            self._network = network_of(load(path.read_bytes()))
        except Exception as error:
            raise PluginError(f"not weights of musicnn: {error} @ embedder musicnn: weights = '{path}'") from error
        self._mel = torchaudio.functional.melscale_fbanks(
            FFT // 2 + 1, 0.0, RATE / 2, MELS, RATE, norm="slaney", mel_scale="slaney"
        )
        self.fingerprint = f"musicnn 1 {hash_file(path)} hop={self._hop}"
        self.provenance = (
            f"musicnn (trained on MagnaTagATune, weights ISC), 200 units before the tags, 3 s patches every "
            f"{self._hop * HOP / RATE:g} s"
        )

    @torch.inference_mode()
    def embed(self, audio: np.ndarray) -> np.ndarray:
        """audio [N] at 16 kHz -> [n, 200] float32, a row a patch. Raises ValueError for less than a patch (3 s)."""
        mel = self.log_mel(torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32)))
        if len(mel) < PATCH:
            raise ValueError(f"{len(audio) / RATE:.2f} s of sound; musicnn needs patches of {PATCH * HOP / RATE:.2f} s")
        patches = mel.unfold(0, PATCH, self._hop).transpose(1, 2)
        return torch.cat([self._network(batch) for batch in patches.split(BATCH)]).numpy()

    def log_mel(self, audio: torch.Tensor) -> torch.Tensor:
        """audio [N] -> log10(1 + 10000 mel power) [T, 96], 62.5 frames a second."""
        if len(audio) <= FFT // 2:
            return torch.zeros(0, MELS)
        window = torch.hann_window(FFT)
        spectra = torch.stft(audio, FFT, HOP, window=window, center=True, pad_mode="reflect", return_complex=True)
        return torch.log10(1 + 1e4 * (spectra.abs() ** 2).T @ self._mel)
