"""Training of a vocoder: the codec that it is for stays as it is, and what it decodes is judged by its sound."""

from __future__ import annotations

from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from accomp.plugins.tokenizers.causal import History
from accomp.plugins.tokenizers.clips import Music
from accomp.plugins.tokenizers.magnitude_network import STEP, WINDOW, magnitudes_of
from accomp.plugins.tokenizers.phase.peaks import TensorPhases
from accomp.plugins.tokenizers.sound_judge import SoundJudge, SoundTrainSpec
from accomp.plugins.tokenizers.trainer import CodecTrainer
from accomp.plugins.tokenizers.vocoder import Vocoder


@frozen(kw_only=True)
class VocoderTrainSpec(SoundTrainSpec):
    """[train] of a vocoder; precision "bfloat16" is also that of its blocks' matrix products.

    `low` compares phases with the original's, of which codes of magnitudes say nothing: its weight had better be 0.
    """


class PairedVocoder(Vocoder):
    """A vocoder with the frozen codec that it learns to follow, which is no part of its state."""

    def __init__(self, codec: Any, **sizes: int):
        """`codec` is a Magnitude; `sizes` are VocoderSizes."""
        super().__init__(latent=codec.space.latent_dim, **sizes)
        self.codec = codec
        self.spread.copy_(codec.network.spread)


class VocoderTrainer(CodecTrainer[VocoderTrainSpec]):
    """Trains a PairedVocoder on what its codec decodes; see CodecTrainer."""

    network: PairedVocoder

    def __init__(
        self, network: Any, spec: VocoderTrainSpec, clips: Music, seed: int, device: torch.device, **timing: Any
    ):
        super().__init__(network, spec, clips, seed, device, **timing)
        self.network.mixed = spec.precision == "bfloat16"
        self.codec = network.codec.to(device)
        self.levels = self.codec.space.codebooks
        self.fitted = 0  # the codec's codebooks are
        self.phases = TensorPhases(WINDOW, STEP)  # adds up differentiably, on any device
        self.judge = SoundJudge(spec, network.sample_rate, seed, device, self.rng)
        self.optimize()

    def parts(self) -> dict[str, Any]:
        return self.judge.parts()

    def learn(self, done: float) -> dict[str, float]:
        audio = self.draw()
        z, spectra = self._decoded(audio)
        corrected = self.network(spectra, z, History())
        total = self.phases.begin_sum(len(audio), self.device)
        sound = self.phases.sound(corrected, total)[:, self.network.delay :]
        loss, parts = self.judge(sound, audio[:, : sound.shape[1]], done, self.cosine(done))
        return self.descend(loss, parts, done)

    @torch.no_grad()
    def _decoded(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, T, E] and settled spectra [B, T * 4, 2, 641] of what the codec makes of audio [B, T * hop]."""
        z = self.codec.embed(self.codec.encode(audio))
        logs, tuning = self.codec.network.decode_in_tune(z, History())
        return z, self.codec.settled(magnitudes_of(logs).flatten(1, 2), History(), tuning)

    def finish(self) -> list[float]:
        return []
