"""Training of a codec with waveform output: autoencoder, then fit of codebooks, then joint training."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.plugin import SpecError
from accomp.plugins.tokenizers.codec.networks.quantizer import nearest, project, restore
from accomp.plugins.tokenizers.codec.streams.lookahead import decode_whole, encode_whole
from accomp.plugins.tokenizers.codec.training.codebooks import CodebookTrainer
from accomp.plugins.tokenizers.codec.training.sound.losses import SoundJudge
from accomp.plugins.tokenizers.codec.training.sound.spec import SoundTrainSpec
from accomp.plugins.tokenizers.codec.training.trainer import CodecTrainer, share


@frozen(kw_only=True)
class WaveformTrainSpec(SoundTrainSpec):
    """[train] of a codec such as dac; see SoundTrainSpec for the losses.

    Attributes:
        autoencoder: share of the training without quantizer, before the fit of the codebooks.
        noise: Gaussian noise on the latents without quantizer, in standard deviations of the latents.
        codebooks: levels in joint training, 0 for all. Later levels are fitted to the final residual and change nothing
            else, so the leading levels work as a codec by themselves.
        follow_steps: moving-average steps of the later codebooks after their fit.
        refit_every, refit_until: interval (steps) of refits of the codebooks, up to this share of the steps, since the
            encoder finds new directions after the first fit; 0: never.
    """

    autoencoder: float = field(default=0.25, validator=share)
    noise: float = field(default=0.2, validator=v.ge(0.0))
    codebooks: int = field(default=0, validator=v.ge(0))
    follow_steps: int = field(default=400, validator=v.ge(0))
    refit_every: int = field(default=800, validator=v.ge(0))
    refit_until: float = field(default=0.7, validator=share)


class WaveformTrainer(CodecTrainer[WaveformTrainSpec]):
    """Trainer of networks with dac's quantizer by losses on audio; see CodecTrainer."""

    def __init__(
        self, network: Any, spec: WaveformTrainSpec, clips: Any, seed: int, device: torch.device, **timing: Any
    ):
        super().__init__(network, spec, clips, seed, device, **timing)
        self.noise = torch.Generator(device).manual_seed(seed)
        self.judge = SoundJudge(spec, network.sample_rate, seed, device, self.rng)
        levels = list(network.quantizer.quantizers)
        self.levels = spec.codebooks or len(levels)
        if self.levels > len(levels):
            raise SpecError(f"codebooks = {self.levels}, but [codec] has {len(levels)} @ train.codebooks")
        for parameter in chain.from_iterable(level.parameters() for level in levels[self.levels :]):
            parameter.requires_grad_(False)
        self.codebooks = CodebookTrainer(levels[: self.levels], self.rng, spec.dead)
        self.optimize()

    def parts(self) -> dict[str, Any]:
        return {"codebooks": self.codebooks, "noise": _State(self.noise), **self.judge.parts()}

    def learn(self, done: float) -> dict[str, float]:
        told: dict[str, float] = {}
        if self._fits_now(done):
            for i, left in enumerate(self.codebooks.fit(self.latents(self._encode))):
                told[f"unexplained_{i + 1}"] = left
        return told | self._one_step(done)

    def _one_step(self, done: float) -> dict[str, float]:
        audio, z, z_out, quantizer_loss, codes = self._forward()
        decoded = decode_whole(self.network, z_out)
        total, losses = self.judge(decoded, audio[:, : decoded.shape[1]], done, self.cosine(done))
        losses |= {} if codes is None else {"quantizer": quantizer_loss}
        told = self.descend(total + quantizer_loss, losses, done)
        if codes is not None and self.step % self.spec.revive_every == 0 and done <= self.spec.revive_until:
            told["revived"] = float(self.codebooks.revive(z))
        return told

    def _forward(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        audio = self.draw()
        z = self._encode(audio)
        if self.fitted is not None:
            out, loss, codes = self.codebooks.quantize(z)
            return audio, z, out, loss, codes
        noise = torch.randn(z.shape, generator=self.noise, device=self.device) * z.detach().std()
        return audio, z, z + self.spec.noise * noise, z.new_zeros(()), None

    def _encode(self, audio: Tensor) -> Tensor:
        return encode_whole(self.network, audio)

    @torch.no_grad()
    def finish(self) -> list[float]:
        behind = list(self.network.quantizer.quantizers)[self.levels :]
        if not behind:
            return []
        codebooks = CodebookTrainer(behind, self.rng, self.spec.dead)
        left = codebooks.fit(self._rest(self.latents(self._encode)))
        for step in range(self.spec.follow_steps):
            rest = self._rest(self._encode(self.draw()))
            codebooks.quantize(rest)
            if step % self.spec.revive_every == 0 and step < self.spec.follow_steps // 2:
                codebooks.revive(rest)
        return left

    def _rest(self, z: Tensor) -> Tensor:
        """Return the residual of latents [..., E] after the trained levels."""
        for level in list(self.network.quantizer.quantizers)[: self.levels]:
            z = z - restore(level, level.codebook(nearest(level, project(level, z))))
        return z

    def _fits_now(self, done: float) -> bool:
        if self.fitted is None:
            if done >= self.spec.autoencoder:
                self.fitted = self.step
            return self.fitted is not None
        since, every = self.step - self.fitted, self.spec.refit_every
        return every > 0 and since > 0 and since % every == 0 and done <= self.spec.refit_until


class _State:
    """Serializable state of a random generator."""

    def __init__(self, generator: torch.Generator):
        self._generator = generator

    def state_dict(self) -> Tensor:
        return self._generator.get_state()

    def load_state_dict(self, state: Tensor) -> None:
        self._generator.set_state(state.cpu())
