"""Training of the `magnitude` codec: from principal components and k-means on, all parts together."""

from __future__ import annotations

from typing import Any, Literal

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor, nn

from accomp.plugin import SpecError
from accomp.plugins.tokenizers.codec.music.clips import Music
from accomp.plugins.tokenizers.codec.networks.magnitude_network import STEP, WINDOW, MagnitudeNetwork, magnitudes_of
from accomp.plugins.tokenizers.codec.networks.tuner import by_slopes, mistuning, true_tuning
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.training.averaging import Averaged
from accomp.plugins.tokenizers.codec.training.magnitude.discriminator import MagnitudeAdversary
from accomp.plugins.tokenizers.codec.training.magnitude.losses import MagnitudeDistance
from accomp.plugins.tokenizers.codec.training.magnitude.residual_trainer import ResidualTrainer
from accomp.plugins.tokenizers.codec.training.magnitude.texture import TextureDistance
from accomp.plugins.tokenizers.codec.training.trainer import CodecTrainer, CodecTrainSpec, share


@frozen(kw_only=True)
class MagnitudeTrainSpec(CodecTrainSpec):
    """[train] of the magnitude codec; precision "bfloat16" is that of the blocks' matrix products, on any device.

    Attributes:
        only: "all", or "decoder": encoder and codebooks stay as `start` has them, and with them the codes, but where
            [codec] has circles and `start` none: the levels that quantize these are fitted at the beginning; or
            "tuner": of the decoder, too, all but the estimation of frequencies stays; see tuner_trainer.py; or
            "rare_codes": all stays but codes of the first level that music hardly uses; see rare_codes.py.
        rare: share of the frames of music under which a code is rare.
        keep, again: of a tuner's training, the batches kept in memory, and the average number of steps on each.
        stay: that of the codec, for the codes of a decoder that is trained alone.
        average: decay of the moving average of the decoder's trained weights, which is the result; 0: the last weights.
            With adversarial training weights oscillate around a solution.
        codebooks: levels that the decoder gets in most steps, 0 for all. Those behind are trained in `more` of them.
        fewer: share of the steps in which it gets the first 1 .. codebooks - 1 only, so that each number is a codec.
        more: share of the steps in which it gets all levels.
        whole: share of the steps in which it gets latents that are not quantized, as diffusion models use them; `fewer`
            and `more` are then shares of the others.
        refit: shares of the training at which the codebooks are fitted anew.
        bin, slope, growth, mel, linear, energy, level, loud: weights of the distances of MagnitudeDistance.
        texture: weight of TextureDistance, which keeps spectra from blur as an adversary does, but without one.
        tuning: weight of the error of the lowest bins' frequencies; see tuner.py.
        compile: whether torch.compile fuses the distances (a sixth of a step's time on a CPU; it needs a C++ compiler).
        commitment: weight of |z - quantized|^2 over the variance of the latents. Quantized means by `codebooks` levels,
            or by all where the decoder gets all: were it always all, latents would shrink until the levels that the
            decoder mostly gets leave most dimensions out.
        steady, steady_from: weight of |z_t - z_{t-1}|^2 over that variance, and the share of the training it begins at.
        adversarial, features: weights of the adversarial loss and of the distance of features; both begin at
            `adversary_from`, with learning rate `adversary_lr`, on the first `adversary_batch` clips, and have full
            weight after `adversary_warmup` steps.
    """

    only: Literal["all", "decoder", "tuner", "rare_codes"] = "all"
    rare: float = field(default=3e-4, validator=share)
    stay: float = field(default=0.15, validator=v.ge(0.0))
    average: float = field(default=0.0, validator=v.and_(v.ge(0.0), v.lt(1.0)))
    codebooks: int = field(default=0, validator=v.ge(0))
    fewer: float = field(default=0.25, validator=share)
    more: float = field(default=0.2, validator=share)
    whole: float = field(default=0.0, validator=share)
    refit: tuple[float, ...] = (0.3, 0.55)
    bin: float = field(default=1.0, validator=v.ge(0.0))
    slope: float = field(default=0.3, validator=v.ge(0.0))
    growth: float = field(default=0.0, validator=v.ge(0.0))
    mel: float = field(default=1.0, validator=v.ge(0.0))
    linear: float = field(default=1.0, validator=v.ge(0.0))
    energy: float = field(default=0.5, validator=v.ge(0.0))
    level: float = field(default=1.0, validator=v.ge(0.0))
    loud: float = field(default=0.0, validator=v.ge(0.0))
    texture: float = field(default=0.0, validator=v.ge(0.0))
    tuning: float = field(default=1.0, validator=v.ge(0.0))
    keep: int = field(default=1, validator=v.gt(0))
    again: int = field(default=1, validator=v.gt(0))
    compile: bool = False
    commitment: float = field(default=1.0, validator=v.ge(0.0))
    steady: float = field(default=0.0, validator=v.ge(0.0))
    steady_from: float = field(default=0.6, validator=share)
    adversarial: float = field(default=0.0, validator=v.ge(0.0))
    features: float = field(default=1.0, validator=v.ge(0.0))
    adversary_from: float = field(default=0.5, validator=share)
    adversary_lr: float = field(default=3e-4, validator=v.gt(0.0))
    adversary_batch: int = field(default=4, validator=v.gt(0))
    adversary_warmup: int = field(default=200, validator=v.gt(0))


class MagnitudeTrainer(CodecTrainer[MagnitudeTrainSpec]):
    """Trains a MagnitudeNetwork; nothing is transformed back into sound. See CodecTrainer."""

    network: MagnitudeNetwork

    def __init__(
        self, network: Any, spec: MagnitudeTrainSpec, clips: Music, seed: int, device: torch.device, **timing: Any
    ):
        super().__init__(network, spec, clips, seed, device, **timing)
        self.network.mixed = spec.precision == "bfloat16"
        have = len(network.quantizer.levels)
        self.levels = spec.codebooks or have
        if self.levels > have:
            raise SpecError(f"codebooks = {self.levels}, but [codec] has {have} @ train.codebooks")
        self.distance = self._fused(MagnitudeDistance())
        self.texture = self._fused(TextureDistance()) if spec.texture else None
        if spec.only != "all" and not spec.start:
            raise SpecError(f'only = "{spec.only}" needs weights to start from, such as "default" @ train.start')
        if spec.only == "tuner" and not network.tuner:
            raise SpecError('only = "tuner" needs tuner_blocks over 0 @ codec.tuner_blocks')
        if network.tuner:
            network.tuner.mixed = network.mixed
        network.requires_grad_(False)
        for parameter in network.learning(spec.only):
            parameter.requires_grad_(True)
        self.codebooks = ResidualTrainer(network.quantizer.levels, self.rng, spec.dead)
        self.adversary = MagnitudeAdversary(seed, device, half=self.network.mixed) if spec.adversarial else None
        part = "decoder" if spec.only == "all" else spec.only
        self.averaged = Averaged(self.network.learning(part), spec.average) if spec.average else None
        self.optimize()

    def _fused(self, distance: nn.Module) -> Any:
        distance = distance.to(self.device)
        return torch.compile(distance, dynamic=False) if self.spec.compile else distance

    def parts(self) -> dict[str, Any]:
        adversary = {"adversary": self.adversary} if self.adversary else {}
        averaged = {"averaged": self.averaged} if self.averaged else {}
        return {"codebooks": self.codebooks, **adversary, **averaged}

    def learn(self, done: float) -> dict[str, float]:
        told: dict[str, float] = {}
        if not self.step and (fitted := self.network.quantizer.fitted) < len(self.codebooks.levels):
            told |= self._fit(fitted)
        if self.fitted is None and not self.spec.start:
            told["components_miss"] = self._start()
        if self._fits_now(done):
            told |= self._fit()
            self.fitted = self.step
        return told | self._one_step(done)

    def _one_step(self, done: float) -> dict[str, float]:
        spec, network = self.spec, self.network
        audio = self.draw()
        with torch.no_grad():
            magnitudes, low = network.spectra(audio, History())
            bands = network.spectra.log_bands(magnitudes)
        heard, pulled = self._heard(bands, low, done) if spec.only == "all" else (self._coded(bands, low), {})
        decoded, tuning = network.decode_in_tune(heard, History())
        mistuned, placed = self._mistuning(heard, decoded, tuning, audio)
        losses = pulled | mistuned | self.distance(decoded, magnitudes)
        if self.texture is not None:
            losses["texture"] = self.texture(decoded, magnitudes)
        total = torch.stack([getattr(spec, name) * value for name, value in losses.items()]).sum()
        judged: dict[str, Tensor] = {}
        if self.adversary and done >= spec.adversary_from:
            n, rate = spec.adversary_batch, spec.adversary_lr * max(0.1, self.cosine(done))
            judged = self.adversary.judge(decoded[:n], magnitudes[:n], rate)
            heed = min(1.0, self.adversary.steps / spec.adversary_warmup)
            total = total + heed * (spec.adversarial * judged["fool"] + spec.features * judged["features"])
        return self.descended(total, losses | placed | judged, done)

    def descended(self, total: Tensor, losses: dict[str, Tensor], done: float) -> dict[str, float]:
        """What `descend` gives; the moving average follows."""
        told = self.descend(total, losses, done)
        if self.averaged:
            self.averaged.follow(self.step)
        return told

    def _mistuning(
        self, heard: Tensor, decoded: Tensor, tuning: Tensor | None, audio: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The error of the tuner's frequencies, and what is left of it where circles move them."""
        if tuning is None:
            return {}, {}
        magnitudes = magnitudes_of(decoded).flatten(1, 2)
        true, own = true_tuning(audio, WINDOW, STEP), by_slopes(magnitudes)
        left: dict[str, Tensor] = {}
        if self.network.spectra.circles:
            with torch.no_grad():
                left["placed"] = mistuning(own + self.network.placed(heard, magnitudes, tuning), *true)
        return {"tuning": mistuning(own + tuning, *true)}, left

    def _heard(self, bands: Tensor, low: Tensor, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Input of the decoder, with a straight-through gradient for the latents, and the losses of the latents."""
        spec, variance = self.spec, self.network.spread**2
        z = self.network.latents(bands, low, History())
        revive = self.step % spec.revive_every == 0 and done <= spec.revive_until
        sums = self.codebooks.quantize(z.detach(), revive=revive)
        heard = self._levels_heard()
        pulled = {"commitment": (z - sums[max(heard or 0, self.levels) - 1]).square().mean() / variance}
        if spec.steady and done >= spec.steady_from:
            pulled["steady"] = (z[:, 1:] - z[:, :-1]).square().mean() / variance
        return (z if heard is None else sums[heard - 1] + z - z.detach()), pulled

    @torch.no_grad()
    def _coded(self, bands: Tensor, low: Tensor) -> Tensor:
        """Input of the decoder from the codes, or the latents themselves, without a gradient."""
        quantizer, first = self.network.quantizer, self._levels_heard()
        z = self.network.latents(bands, low, History())
        return z if first is None else quantizer.embed(quantizer.codes(z, self.spec.stay, first=first))

    def _levels_heard(self) -> int | None:
        """Number of levels that the decoder gets in this step; None for latents that are not quantized."""
        if self.spec.whole and float(torch.rand((), generator=self.rng)) < self.spec.whole:
            return None
        chance = float(torch.rand((), generator=self.rng))
        if chance < self.spec.fewer and self.levels > 1:
            return 1 + int(torch.randint(self.levels - 1, (), generator=self.rng))
        return len(self.codebooks.levels) if chance > 1 - self.spec.more else self.levels

    def _fit(self, first: int = 0) -> dict[str, float]:
        """Fit all levels, or those from number `first` on, which are the first with circles."""
        z = self.latents(self._encode)
        left = self.codebooks.fit(z, first)
        if first:
            self.network.whitening.fit(z, circles_only=True)
        return {f"unexplained_{i + 1}": share for i, share in enumerate(left)}

    @torch.no_grad()
    def _start(self) -> float:
        return self.network.start(self.latents(self._bands))

    def _bands(self, audio: Tensor) -> Tensor:
        return self.network.spectra.log_bands(self.network.spectra(audio, History())[0])

    def _encode(self, audio: Tensor) -> Tensor:
        return self.network.encode(audio, History())

    def _fits_now(self, done: float) -> bool:
        """At the beginning, unless that is other weights, and when the progress passes the next share of `refit`."""
        due = self.spec.refit if self.spec.start else (0.0, *self.spec.refit)
        return self.spec.only == "all" and self.codebooks.fits < len(due) and done >= due[self.codebooks.fits]

    def finish(self) -> list[float]:
        if self.spec.only == "all":
            self.network.whitening.fit(self.latents(self._encode))
        if self.averaged:
            self.averaged.take()
        return []
