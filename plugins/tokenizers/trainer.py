"""Codec training: an autoencoder first, then codebooks on what it has learnt, then both together."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor, nn

from accomp.core.errors import CheckpointError
from accomp.core.files import write_atomic
from accomp.plugins.tokenizers.adversary import Adversary
from accomp.plugins.tokenizers.causal import History
from accomp.plugins.tokenizers.clips import Clips
from accomp.plugins.tokenizers.codebooks import CodebookTrainer
from accomp.plugins.tokenizers.losses import SpectralDistance

_share = v.and_(v.ge(0.0), v.le(1.0))


@frozen(kw_only=True)
class CodecTrainSpec:
    """[train] of a codec spec.

    Attributes:
        steps: optimizer steps in all.
        autoencoder: share of the steps that run without quantizer, before the codebooks are fitted.
        noise: Gaussian noise on the latents while there is no quantizer, in standard deviations of the latents.
        fit_frames: latents that principal components and k-means see.
        refit_every, refit_until: the codebooks are fitted anew every so many steps up to this share of them, since the
            encoder finds directions worth coding that the first fit did not see; 0 never.
        batch, seconds: clips a step and their length (s).
        lr, final_lr, warmup, clip: AdamW's peak rate after `warmup` steps, its rate at the end (cosine), gradient norm.
        log, linear, energy, low: weights of the distances of SpectralDistance.
        adversarial: weight of dac's discriminators; 0 leaves them out. They multiply the time of a step: for a GPU.
        adversary_periods, adversary_windows: periods and STFT windows (samples) of the discriminators.
        adversary_from: step at which the discriminators join.
        revive_every, report_every, validate_every, checkpoint_every: in steps.
    """

    steps: int = field(validator=v.gt(0))
    autoencoder: float = field(default=0.25, validator=_share)
    noise: float = field(default=0.2, validator=v.ge(0.0))
    fit_frames: int = field(default=20_000, validator=v.gt(0))
    refit_every: int = field(default=800, validator=v.ge(0))
    refit_until: float = field(default=0.7, validator=_share)
    batch: int = field(default=12, validator=v.gt(0))
    seconds: float = field(default=1.0, validator=v.gt(0.0))
    lr: float = field(default=1e-3, validator=v.gt(0.0))
    final_lr: float = field(default=2e-5, validator=v.ge(0.0))
    warmup: int = field(default=100, validator=v.ge(0))
    clip: float = field(default=1.0, validator=v.gt(0.0))
    log: float = field(default=1.0, validator=v.ge(0.0))
    linear: float = field(default=1.0, validator=v.ge(0.0))
    energy: float = field(default=0.5, validator=v.ge(0.0))
    low: float = field(default=0.5, validator=v.ge(0.0))
    adversarial: float = field(default=0.0, validator=v.ge(0.0))
    adversary_periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    adversary_windows: tuple[int, ...] = (2048, 1024, 512)
    adversary_from: int = field(default=0, validator=v.ge(0))
    revive_every: int = field(default=50, validator=v.gt(0))
    report_every: int = field(default=50, validator=v.gt(0))
    validate_every: int = field(default=1000, validator=v.gt(0))
    checkpoint_every: int = field(default=200, validator=v.gt(0))

    @property
    def fit_step(self) -> int:
        """The step before which the codebooks are fitted."""
        return round(self.steps * self.autoencoder)


class CodecTrainer:
    """Trains one network; `steps()` yields the losses of each, so that a caller may report, save and stop."""

    def __init__(self, network: Any, spec: CodecTrainSpec, clips: Clips, seed: int, device: torch.device):
        self.network, self.spec, self.clips, self.device = network.to(device).train(), spec, clips, device
        self.step = 0
        self.bad_files: dict[Path, str] = {}
        self.rng = torch.Generator().manual_seed(seed)
        self.distance = SpectralDistance(network.sample_rate).to(device)
        self.codebooks = CodebookTrainer(network.quantizer, self.rng)
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=spec.lr, betas=(0.8, 0.99), weight_decay=1e-3)
        self.adversary = Adversary(spec, network.sample_rate, seed, device) if spec.adversarial else None

    def steps(self) -> Iterator[dict[str, float]]:
        """Runs the remaining steps; after each yields its losses, and codes used per level where codes are in use."""
        while self.step < self.spec.steps:
            parts: dict[str, float] = {}
            if self._fits_now():
                for i, left in enumerate(self._fit_codebooks()):
                    parts[f"unexplained_{i + 1}"] = left
            parts |= self._one_step()
            self.step += 1
            yield parts

    def _one_step(self) -> dict[str, float]:
        audio, z, z_out, quantizer_loss, codes = self._forward()
        n = audio.shape[1] - self.network.delay
        decoded = self.network.decode(z_out, History())[:, self.network.delay :]
        original = audio[:, :n]
        losses = self.distance(decoded, original)
        total = sum(getattr(self.spec, name) * value for name, value in losses.items()) + quantizer_loss
        if self.adversary and self.step >= self.spec.adversary_from:
            losses |= self.adversary.judge(decoded, original)
            total = total + self.spec.adversarial * (losses["fool"] + 2 * losses["features"])
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss became {total.item()} at step {self.step}; lower [train] lr")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.spec.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.step()
        parts = {name: float(value.detach()) for name, value in losses.items()} | {"total": float(total.detach())}
        if codes is not None:
            parts["quantizer"] = float(quantizer_loss.detach())
            if self.step % self.spec.revive_every == 0:
                parts["revived"] = float(self.codebooks.revive(z))
        return parts

    def _forward(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        audio = self._draw()
        z = self.network.encode(audio, History())
        if self.step >= self.spec.fit_step:
            out, loss, codes = self.codebooks.quantize(z)
            return audio, z, out, loss, codes
        noise = torch.randn(z.shape, generator=self.rng).to(z) * z.detach().std()
        return audio, z, z + self.spec.noise * noise, z.new_zeros(()), None

    def _draw(self) -> Tensor:
        rate, hop = self.network.sample_rate, self.network.hop
        batch = self.clips.draw(self.spec.batch, self.spec.seconds, rate, self.rng, self.bad_files.__setitem__)
        return batch[:, : batch.shape[1] // hop * hop].to(self.device)

    @torch.no_grad()
    def _fit_codebooks(self) -> list[float]:
        latents, have = [], 0
        while have < self.spec.fit_frames:
            latents.append(self.network.encode(self._draw(), History()).flatten(0, 1))
            have += len(latents[-1])
        return self.codebooks.fit(torch.cat(latents))

    def _fits_now(self) -> bool:
        since, every = self.step - self.spec.fit_step, self.spec.refit_every
        again = every > 0 and since > 0 and since % every == 0 and self.step <= self.spec.refit_until * self.spec.steps
        return since == 0 or again

    def _rate(self) -> float:
        """The learning rate: linear warm-up, then a cosine; a short warm-up again when the quantizer enters."""
        spec = self.spec
        since = self.step - spec.fit_step if self.step >= spec.fit_step else self.step
        cosine = 0.5 + 0.5 * math.cos(math.pi * self.step / spec.steps)
        return (spec.final_lr + (spec.lr - spec.final_lr) * cosine) * min(1.0, (since + 1) / max(1, spec.warmup))

    def save(self, path: Path) -> None:
        """Everything that the next step depends on, written at once or not at all."""
        state: dict[str, Any] = {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "codebooks": self.codebooks.state_dict(),
            "rng": self.rng.get_state(),
        }
        if self.adversary:
            state["adversary"] = self.adversary.state_dict()
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomic(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        """Go on where `save` left off. Raises CheckpointError for a file that is damaged or of another network."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.codebooks.load_state_dict(state["codebooks"])
            self.rng.set_state(state["rng"].cpu())
            if self.adversary:
                self.adversary.load_state_dict(state["adversary"])
            self.step = state["step"]
        except Exception as error:
            raise CheckpointError(
                f"cannot continue the training: {type(error).__name__}: {error} @ {path}; "
                "give another --out, or remove the file to start anew"
            ) from error
