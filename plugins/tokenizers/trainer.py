"""Codec training: an autoencoder first, then codebooks on what it has learnt, then both together."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import attrs
import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor, nn

from accomp.core.errors import CheckpointError, SpecError
from accomp.core.files import write_atomic
from accomp.plugins.tokenizers.adversary import Adversary
from accomp.plugins.tokenizers.codebooks import CodebookTrainer
from accomp.plugins.tokenizers.lookahead import decode_whole, encode_whole
from accomp.plugins.tokenizers.losses import WINDOWS, SpectralDistance
from accomp.plugins.tokenizers.quantizer import nearest, project, restore
from accomp.plugins.tokenizers.variation import at_speed, vary

_share = v.and_(v.ge(0.0), v.le(1.0))


@frozen(kw_only=True)
class CodecTrainSpec:
    """[train] of a codec spec.

    Attributes:
        steps: optimizer steps in all; with a time limit, the share of the time stands for the share of the steps.
        autoencoder: share of the training that runs without quantizer, before the codebooks are fitted.
        noise: Gaussian noise on the latents while there is no quantizer, in standard deviations of the latents.
        codebooks: levels that encoder and decoder are trained with, 0 for all. Those behind are fitted in the end to
            what these leave over, and change nothing else: the first so many are the codec that they are alone.
        follow_steps: steps for which the codebooks behind then follow what chooses them.
        fit_frames: latents that principal components and k-means see.
        refit_every, refit_until: the codebooks are fitted anew every so many steps up to this share of them, since the
            encoder finds directions worth coding that the first fit did not see; 0 never.
        batch, seconds: clips a step and their length (s).
        lr, final_lr, warmup, clip: AdamW's peak rate after `warmup` steps, its rate at the end (cosine), gradient norm.
        log, linear, energy, low: weights of the distances of SpectralDistance.
        windows: of the distances (samples); 1024 and 2048 must be among them.
        adversarial: weight of dac's discriminators; 0 leaves them out. They multiply the time of a step: for a GPU.
        adversary_periods, adversary_windows: periods and STFT windows (samples) of the discriminators.
        adversary_from: share of the training after which the discriminators join.
        adversary_lr: their rate, which falls with the codec's.
        adversary_seconds: how much of every clip they hear, at a random place; 0: all of it.
        start: weights to start from, as [tokenizer] weights names them; "" starts from random ones.
        levels: lowest and highest gain of a clip (dB); equaliser: see variation.vary.
        speed: each step's clips are played faster or slower by up to so many octaves, and their pitch follows.
        dead: a code used less than this share of the average is moved; revive_until: up to this share of the training.
        precision: "float32"; "tf32" (GPU: matrix products in tf32); "bfloat16" (as tf32, discriminators in bfloat16).
        revive_every, report_every, validate_every, checkpoint_every: in steps.
    """

    steps: int = field(validator=v.gt(0))
    autoencoder: float = field(default=0.25, validator=_share)
    noise: float = field(default=0.2, validator=v.ge(0.0))
    codebooks: int = field(default=0, validator=v.ge(0))
    follow_steps: int = field(default=400, validator=v.ge(0))
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
    windows: tuple[int, ...] = field(default=WINDOWS)
    adversarial: float = field(default=0.0, validator=v.ge(0.0))
    adversary_periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    adversary_windows: tuple[int, ...] = (2048, 1024, 512)
    adversary_from: float = field(default=0.0, validator=_share)
    adversary_lr: float = field(default=1e-4, validator=v.gt(0.0))
    adversary_seconds: float = field(default=0.0, validator=v.ge(0.0))
    levels: tuple[float, float] = (-12.0, 3.0)
    equaliser: float = field(default=0.0, validator=v.ge(0.0))
    speed: float = field(default=0.0, validator=v.ge(0.0))
    start: str = ""
    dead: float = field(default=0.05, validator=_share)
    revive_until: float = field(default=1.0, validator=_share)
    precision: str = field(default="float32", validator=v.in_(("float32", "tf32", "bfloat16")))
    revive_every: int = field(default=50, validator=v.gt(0))
    report_every: int = field(default=50, validator=v.gt(0))
    validate_every: int = field(default=1000, validator=v.gt(0))
    checkpoint_every: int = field(default=200, validator=v.gt(0))

    @windows.validator
    def _complete(self, attribute: attrs.Attribute, value: tuple[int, ...]) -> None:
        if not {1024, 2048} <= set(value):
            raise ValueError(f"windows {list(value)}; 1024 and 2048 must be among them")


class Music(Protocol):
    """Where clips come from: Clips or ResidentClips."""

    def draw(
        self, n: int, seconds: float, rate: int, rng: torch.Generator, skip: Callable[[Path, str], None]
    ) -> Tensor: ...


class CodecTrainer:
    """Trains one network; `steps()` yields the losses of each, so that a caller may report, save and stop.

    With `seconds` the training ends after so much time, that of earlier sittings included, and every share in the spec
    is one of the time; `clock` tells it.
    """

    def __init__(
        self,
        network: Any,
        spec: CodecTrainSpec,
        clips: Music,
        seed: int,
        device: torch.device,
        *,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.network, self.spec, self.clips, self.device = network.to(device).train(), spec, clips, device
        self.seconds, self._clock = seconds, clock
        self._before, self._since = 0.0, clock()
        self.step = 0
        self.fitted: int | None = None
        """The step before which the codebooks were first fitted."""
        self.bad_files: dict[Path, str] = {}
        self.rng = torch.Generator().manual_seed(seed)
        self.noise = torch.Generator(device).manual_seed(seed)
        self.distance = SpectralDistance(network.sample_rate, spec.windows).to(device)
        levels = list(network.quantizer.quantizers)
        self.levels = spec.codebooks or len(levels)
        """How many are trained with encoder and decoder."""
        if self.levels > len(levels):
            raise SpecError(f"codebooks = {self.levels}, but [codec] has {len(levels)} @ train.codebooks")
        for parameter in chain.from_iterable(level.parameters() for level in levels[self.levels :]):
            parameter.requires_grad_(False)
        self.codebooks = CodebookTrainer(levels[: self.levels], self.rng, spec.dead)
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=spec.lr, betas=(0.8, 0.99), weight_decay=1e-3, fused=True)
        self.adversary = Adversary(spec, network.sample_rate, seed, device) if spec.adversarial else None

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before `load` included."""
        return self._before + self._clock() - self._since

    @property
    def progress(self) -> float:
        """The share of the training that is done, 0 to 1."""
        return min(1.0, self.step / self.spec.steps if self.seconds is None else self.elapsed / self.seconds)

    def steps(self) -> Iterator[dict[str, float]]:
        """Runs the remaining steps; after each yields its losses, and codes used per level where codes are in use."""
        while (done := self.progress) < 1.0:
            parts: dict[str, float] = {}
            with _precision(self.spec.precision):
                if self._fits_now(done):
                    for i, left in enumerate(self.codebooks.fit(self._latents())):
                        parts[f"unexplained_{i + 1}"] = left
                parts |= self._one_step(done)
            self.step += 1
            yield parts

    def _one_step(self, done: float) -> dict[str, float]:
        audio, z, z_out, quantizer_loss, codes = self._forward()
        decoded = decode_whole(self.network, z_out)
        original = audio[:, : decoded.shape[1]]
        losses = self.distance(decoded, original)
        total = sum(getattr(self.spec, name) * value for name, value in losses.items()) + quantizer_loss
        if self.adversary and done >= self.spec.adversary_from:
            rate = self.spec.adversary_lr * self._cosine(done)
            losses |= self.adversary.judge(*self._part(decoded, original), rate)
            total = total + self.spec.adversarial * (losses["fool"] + 2 * losses["features"])
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.spec.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(done)
        self.optimizer.step()
        losses |= {"total": total} | ({} if codes is None else {"quantizer": quantizer_loss})
        numbers = torch.stack([value.detach() for value in losses.values()]).tolist()  # waits for a GPU: once a step
        parts = dict(zip(losses, numbers, strict=True))
        if not math.isfinite(parts["total"]):
            raise FloatingPointError(f"the loss became {parts['total']} at step {self.step}; lower [train] lr")
        if codes is not None and self.step % self.spec.revive_every == 0 and done <= self.spec.revive_until:
            parts["revived"] = float(self.codebooks.revive(z))
        return parts

    def _forward(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        audio = self._draw()
        z = encode_whole(self.network, audio)
        if self.fitted is not None:
            out, loss, codes = self.codebooks.quantize(z)
            return audio, z, out, loss, codes
        noise = torch.randn(z.shape, generator=self.noise, device=self.device) * z.detach().std()
        return audio, z, z + self.spec.noise * noise, z.new_zeros(()), None

    def _draw(self) -> Tensor:
        rate, hop = self.network.sample_rate, self.network.hop
        frames = int(self.spec.seconds * rate) // hop
        faster = 1.0
        if self.spec.speed:
            faster = 2.0 ** (self.spec.speed * float(2 * torch.rand((), generator=self.rng) - 1))
        seconds = round(frames * faster) * hop / rate
        batch = self.clips.draw(self.spec.batch, seconds, rate, self.rng, self.bad_files.__setitem__).to(self.device)
        if batch.shape[1] != frames * hop:
            batch = at_speed(batch, frames * hop)
        return vary(batch, self.spec.levels, self.spec.equaliser, self.rng)

    def _part(self, decoded: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
        """What the discriminators hear of both [B, N]."""
        have, wanted = original.shape[1], round(self.spec.adversary_seconds * self.network.sample_rate)
        if not 0 < wanted < have:
            return decoded, original
        start = int(torch.randint(have - wanted + 1, (), generator=self.rng))
        return decoded[:, start : start + wanted], original[:, start : start + wanted]

    @torch.no_grad()
    def finish(self) -> list[float]:
        """Fit the codebooks behind the trained ones; returns the share of the rest's variance left over after each.

        To be called once, after the last of `steps`.
        """
        behind = list(self.network.quantizer.quantizers)[self.levels :]
        if not behind:
            return []
        codebooks = CodebookTrainer(behind, self.rng, self.spec.dead)
        left = codebooks.fit(self._rest(self._latents()))
        for step in range(self.spec.follow_steps):
            rest = self._rest(encode_whole(self.network, self._draw()))
            codebooks.quantize(rest)
            if step % self.spec.revive_every == 0 and step < self.spec.follow_steps // 2:
                codebooks.revive(rest)
        return left

    def _rest(self, z: Tensor) -> Tensor:
        """What the trained levels leave over of latents [..., E]."""
        for level in list(self.network.quantizer.quantizers)[: self.levels]:
            z = z - restore(level, level.codebook(nearest(level, project(level, z))))
        return z

    @torch.no_grad()
    def _latents(self) -> Tensor:
        """[n, E] of fit_frames frames or some more."""
        latents, have = [], 0
        while have < self.spec.fit_frames:
            latents.append(encode_whole(self.network, self._draw()).flatten(0, 1))
            have += len(latents[-1])
        return torch.cat(latents)

    def _fits_now(self, done: float) -> bool:
        if self.fitted is None:
            if done >= self.spec.autoencoder:
                self.fitted = self.step
            return self.fitted is not None
        since, every = self.step - self.fitted, self.spec.refit_every
        return every > 0 and since > 0 and since % every == 0 and done <= self.spec.refit_until

    def _rate(self, done: float) -> float:
        """The learning rate: linear warm-up, then a cosine; a short warm-up again when the quantizer enters."""
        spec = self.spec
        since = self.step - (self.fitted or 0)
        rate = spec.final_lr + (spec.lr - spec.final_lr) * self._cosine(done)
        return rate * min(1.0, (since + 1) / max(1, spec.warmup))

    def _cosine(self, done: float) -> float:
        return 0.5 + 0.5 * math.cos(math.pi * done)

    def save(self, path: Path) -> None:
        """Everything that the next step depends on, written at once or not at all."""
        state: dict[str, Any] = {
            "step": self.step,
            "fitted": self.fitted,
            "elapsed": self.elapsed,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "codebooks": self.codebooks.state_dict(),
            "rng": self.rng.get_state(),
            "noise": self.noise.get_state(),
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
            self.noise.set_state(state["noise"].cpu())
            if self.adversary:
                self.adversary.load_state_dict(state["adversary"])
            self.step, self.fitted = state["step"], state["fitted"]
            self._before, self._since = state["elapsed"], self._clock()
        except Exception as error:
            raise CheckpointError(
                f"cannot continue the training: {type(error).__name__}: {error} @ {path}; "
                "give another --out, or remove the file to start anew"
            ) from error


@contextmanager
def _precision(name: str) -> Iterator[None]:
    """While a step runs: tf32 for matrix products and convolutions on a GPU unless `name` is "float32"."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    fast = name != "float32"
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = fast, fast, fast
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
