"""Codec training common to all networks: steps, learning rates, clips, time limits, checkpoints."""

from __future__ import annotations

import io
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor, nn

from accomp.plugin import CheckpointError, write_atomic
from accomp.plugins.tokenizers.codec.music.augment import at_speed, vary
from accomp.plugins.tokenizers.codec.music.clips import Music

share = v.and_(v.ge(0.0), v.le(1.0))


@frozen(kw_only=True)
class CodecTrainSpec:
    """[train] of a codec spec: the keys of every kind of network.

    Attributes:
        steps: optimizer steps; with a time limit, progress is the share of the time instead.
        batch, seconds: clips per step and their length (s).
        lr, final_lr, warmup, clip: peak learning rate of AdamW after `warmup` steps, final rate (cosine), gradient
        norm.
        fit_frames: number of latents for principal components and k-means.
        levels: lowest and highest gain of a clip (dB); equaliser: see variation.vary.
        speed: largest random speed change of the clips of a step in octaves; pitch follows.
        start: weights to start from, in the syntax of [tokenizer] weights; "" for random ones.
        dead: relative usage below which a code is moved; revive_until: share of the training with revival.
        precision: "float32"; "tf32" (GPU: matrix products in tf32); "bfloat16" (see the kind of network).
        revive_every, report_every, validate_every, checkpoint_every: in steps.
    """

    steps: int = field(validator=v.gt(0))
    batch: int = field(default=12, validator=v.gt(0))
    seconds: float = field(default=1.0, validator=v.gt(0.0))
    lr: float = field(default=1e-3, validator=v.gt(0.0))
    final_lr: float = field(default=2e-5, validator=v.ge(0.0))
    warmup: int = field(default=100, validator=v.ge(0))
    clip: float = field(default=1.0, validator=v.gt(0.0))
    fit_frames: int = field(default=20_000, validator=v.gt(0))
    levels: tuple[float, float] = (-12.0, 3.0)
    equaliser: float = field(default=0.0, validator=v.ge(0.0))
    speed: float = field(default=0.0, validator=v.ge(0.0))
    start: str = ""
    dead: float = field(default=0.05, validator=share)
    revive_until: float = field(default=1.0, validator=share)
    precision: str = field(default="float32", validator=v.in_(("float32", "tf32", "bfloat16")))
    revive_every: int = field(default=50, validator=v.gt(0))
    report_every: int = field(default=50, validator=v.gt(0))
    validate_every: int = field(default=1000, validator=v.gt(0))
    checkpoint_every: int = field(default=200, validator=v.gt(0))


Spec = TypeVar("Spec", bound=CodecTrainSpec)


class CodecTrainer(ABC, Generic[Spec]):
    """Trainer of one network; `steps()` yields the losses of each step for reports, checkpoints and stopping.

    With `seconds` the training ends after that time, including earlier runs, and every share in the spec refers to time
    by `clock`. Subclasses implement `learn` and `parts`.
    """

    levels: int
    """Number of codebooks trained with encoder and decoder; `finish` fits the others."""
    fitted: int | None
    """Step of the first fit of the codebooks."""

    def __init__(
        self,
        network: Any,
        spec: Spec,
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
        self.fitted = None
        self.bad_files: dict[Path, str] = {}
        self.rng = torch.Generator().manual_seed(seed)
        self.note: Callable[[str], None] = lambda text: None
        """Receives what a long step is doing."""

    def optimize(self) -> None:
        """Create the optimizer of all trainable parameters; called once by the constructor of a subclass."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=self.spec.lr, betas=(0.8, 0.99), weight_decay=1e-3, fused=True)

    @abstractmethod
    def learn(self, done: float) -> dict[str, float]:
        """Run one step at progress `done`; return losses by name, with "total", and further figures for the log."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """Return further state for checkpoints: name -> object with state_dict()."""

    @abstractmethod
    def finish(self) -> list[float]:
        """Fit the remaining codebooks after the last step; return the share of residual variance after each."""

    @property
    def elapsed(self) -> float:
        """Seconds of training, including those before `load`."""
        return self._before + self._clock() - self._since

    @property
    def progress(self) -> float:
        """Completed share of the training, 0 to 1."""
        return min(1.0, self.step / self.spec.steps if self.seconds is None else self.elapsed / self.seconds)

    def steps(self) -> Iterator[dict[str, float]]:
        """Run the remaining steps; yield the losses of each and, with a quantizer, codes used per level."""
        while (done := self.progress) < 1.0:
            with precision(self.spec.precision):
                parts = self.learn(done)
            self.step += 1
            yield parts

    def descend(self, total: Tensor, losses: dict[str, Tensor], done: float) -> dict[str, float]:
        """Run one optimizer step on `total`; return it and the losses as numbers.

        Raises FloatingPointError for a non-finite loss.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.spec.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(done)
        self.optimizer.step()
        losses = {**losses, "total": total}
        numbers = torch.stack([value.detach() for value in losses.values()]).tolist()  # one GPU sync per step
        parts = dict(zip(losses, numbers, strict=True))
        if not math.isfinite(parts["total"]):
            raise FloatingPointError(f"the loss became {parts['total']} at step {self.step}; lower [train] lr")
        return parts

    @property
    def frames(self) -> int:
        """Number of frames of a clip."""
        return int(self.spec.seconds * self.network.sample_rate) // self.network.hop

    def draw(self) -> Tensor:
        """Draw the clips of a step [batch, whole frames of samples]."""
        rate, hop, frames = self.network.sample_rate, self.network.hop, self.frames
        faster = 1.0
        if self.spec.speed:
            faster = 2.0 ** (self.spec.speed * float(2 * torch.rand((), generator=self.rng) - 1))
        seconds = round(frames * faster) * hop / rate
        batch = self.clips.draw(self.spec.batch, seconds, rate, self.rng, self.bad_files.__setitem__).to(self.device)
        if batch.shape[1] != frames * hop:
            batch = at_speed(batch, frames * hop)
        return vary(batch, self.spec.levels, self.spec.equaliser, self.rng)

    @torch.no_grad()
    def latents(self, encode: Callable[[Tensor], Tensor], draw: Callable[[], Tensor] | None = None) -> Tensor:
        """Encode at least fit_frames frames to latents [n, E], of music or of other clips that are drawn."""
        found, have = [], 0
        while have < self.spec.fit_frames:
            found.append(encode((draw or self.draw)()).flatten(0, 1))
            have += len(found[-1])
            self.note(f"frames to fit to: {have} of {self.spec.fit_frames}")
        return torch.cat(found)

    def cosine(self, done: float) -> float:
        """Return the cosine decay from 1 to 0 over the training."""
        return 0.5 + 0.5 * math.cos(math.pi * done)

    def _rate(self, done: float) -> float:
        """Return the learning rate: linear warm-up, cosine decay; another short warm-up when the quantizer starts."""
        spec = self.spec
        since = self.step - (self.fitted or 0)
        rate = spec.final_lr + (spec.lr - spec.final_lr) * self.cosine(done)
        return rate * min(1.0, (since + 1) / max(1, spec.warmup))

    def save(self, path: Path) -> None:
        """Write the complete training state atomically."""
        state: dict[str, Any] = {
            "step": self.step,
            "fitted": self.fitted,
            "elapsed": self.elapsed,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.get_state(),
            **{name: part.state_dict() for name, part in self.parts().items()},
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomic(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        """Resume from the state of `save`. Raises CheckpointError for a damaged file or another network."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.rng.set_state(state["rng"].cpu())
            for name, part in self.parts().items():
                part.load_state_dict(state[name])
            self.step, self.fitted = state["step"], state["fitted"]
            self._before, self._since = state["elapsed"], self._clock()
        except Exception as error:
            raise CheckpointError(
                f"cannot continue the training: {type(error).__name__}: {error} @ {path}; "
                "give another --out, or remove the file to start anew"
            ) from error


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Enable tf32 for matrix products and convolutions on a GPU within the block unless `name` is "float32"."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    fast = name != "float32"
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = fast, fast, fast
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
