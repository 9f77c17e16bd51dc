"""Training of a vocoder with a frozen codec by losses on audio."""

from __future__ import annotations

from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from accomp.plugins.tokenizers.codec.music.clips import Music
from accomp.plugins.tokenizers.codec.networks.magnitude_network import STEP, WINDOW
from accomp.plugins.tokenizers.codec.networks.vocoder import Vocoder
from accomp.plugins.tokenizers.codec.phase.peaks import TensorPhases
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.training.sound.losses import SoundJudge
from accomp.plugins.tokenizers.codec.training.sound.spec import SoundTrainSpec
from accomp.plugins.tokenizers.codec.training.trainer import CodecTrainer


@frozen(kw_only=True)
class VocoderTrainSpec(SoundTrainSpec):
    """[train] of a vocoder; precision "bfloat16" is also that of its blocks' matrix products.

    `low` compares phases with the original, which codes of magnitudes do not contain: set its weight to 0.
    """


class PairedVocoder(Vocoder):
    """A vocoder with its frozen codec, which is not part of its state."""

    def __init__(self, codec: Any, **sizes: int):
        """`codec` is a Magnitude; `sizes` are VocoderSizes."""
        super().__init__(latent=codec.space.latent_dim, **sizes)
        self.codec = codec
        self.spread.copy_(codec.network.spread)


class VocoderTrainer(CodecTrainer[VocoderTrainSpec]):
    """Trainer of a PairedVocoder on the output of its codec; see CodecTrainer."""

    network: PairedVocoder

    def __init__(
        self, network: Any, spec: VocoderTrainSpec, clips: Music, seed: int, device: torch.device, **timing: Any
    ):
        super().__init__(network, spec, clips, seed, device, **timing)
        self.network.mixed = spec.precision == "bfloat16"
        self.codec = network.codec.to(device)
        self.levels = self.codec.space.codebooks
        self.fitted = 0  # the codebooks of the codec are fitted
        self.phases = TensorPhases(WINDOW, STEP)  # differentiable overlap-add on any device
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
        """Latents [B, T, E] and settled spectra [B, T * 4, 2, 641] of audio [B, T * hop] by the codec."""
        z = self.codec.embed(self.codec.encode(audio))
        magnitudes, tuning = self.codec.magnitudes(z, History())
        return z, self.codec.settled(magnitudes, History(), tuning)

    def finish(self) -> list[float]:
        return []
