"""Training of the tuner of a `magnitude` decoder alone: see networks/tuner.py."""

from __future__ import annotations

from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from accomp.plugins.tokenizers.codec.music.clips import Music
from accomp.plugins.tokenizers.codec.networks.magnitude_network import STEP, WINDOW, magnitudes_of
from accomp.plugins.tokenizers.codec.networks.tuner import REACH, Tuner, by_slopes, mistuning, true_tuning
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.training.magnitude.kept_batches import KeptBatches
from accomp.plugins.tokenizers.codec.training.magnitude.trainer import MagnitudeTrainer, MagnitudeTrainSpec


@frozen(eq=False)
class Example:
    """Input and targets of a tuner for a batch of clips, in float16.

    Attributes:
        seen: input of the tuner [B, T, width of the decoder's last layer, and circles].
        slopes, true: frequencies by slopes of decoded magnitudes, and those of the original [B, T * 4, TUNED].
        matter: how much each counts [B, T * 4, TUNED].
    """

    seen: Tensor
    slopes: Tensor
    true: Tensor
    matter: Tensor


class TunerTrainer(MagnitudeTrainer):
    """Trains the tuner of a network of which all else stays, and so can be computed once for `again` steps."""

    def __init__(
        self, network: Any, spec: MagnitudeTrainSpec, clips: Music, seed: int, device: torch.device, **timing: Any
    ):
        super().__init__(network, spec, clips, seed, device, **timing)
        self.tuner: Tuner = network.tuner
        self._seed = seed
        self._kept = KeptBatches(self._example, spec.keep, spec.again)

    def _one_step(self, done: float) -> dict[str, float]:
        kept = self._kept.draw(self.step, self.rng)
        said = kept.slopes.float() + self.tuner(kept.seen.float(), History())
        losses = {"tuning": mistuning(said, kept.true.float(), kept.matter.float())}
        return self.descended(self.spec.tuning * losses["tuning"], losses, done)

    @torch.no_grad()
    def _example(self, number: int) -> Example:
        """The example of a number, drawn by a generator of its own."""
        before, self.rng = self.rng, torch.Generator().manual_seed(self._seed * 1_000_003 + number)
        try:
            audio = self.draw()
            magnitudes, low = self.network.spectra(audio, History())
            heard = self._coded(self.network.spectra.log_bands(magnitudes), low)
        finally:
            self.rng = before
        features = self.network.features(heard, History())
        slopes = by_slopes(magnitudes_of(self.network.logs(heard, features)).flatten(1, 2))
        true, matter = true_tuning(audio, WINDOW, STEP)
        seen = self.network.tuner_input(heard, features)
        return Example(seen.half(), slopes.half(), true.clamp(-REACH, REACH).half(), matter.half())
