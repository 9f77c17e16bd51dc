"""Training of the metric `coherence`: contrastive matching of stem and context within an instrument class."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from attrs import frozen
from torch import Tensor, nn

from accomp.plugins.metrics.coherence.batches import Batch, Pairs
from accomp.plugins.metrics.coherence.hpss_mels import UNHEARD
from accomp.plugins.metrics.coherence.network import CoherenceNetwork


@frozen
class Settings:
    """Training settings.

    Attributes:
        groups, songs: size of a batch, see batches.py.
        lr, decay: of AdamW; warm-up over the first 2 % of the training, then cosine decay to 0.
        smoothing: decay of the moving average of weights.
        part: probability of a harmonic-only, and of a percussive-only, batch.
    """

    groups: int = 6
    songs: int = 4
    lr: float = 3e-3
    decay: float = 0.05
    smoothing: float = 0.99
    part: float = 0.2


class Trainer:
    """Trainer of one network for `seconds`; `average` is the averaged network. A seed determines the batches."""

    def __init__(
        self, pairs: Pairs, settings: Settings, seconds: float, seed: int, clock: Callable[[], float] = time.monotonic
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = CoherenceNetwork()
            self.average = CoherenceNetwork()
        self.average.load_state_dict(self.network.state_dict())
        self.average.eval()
        self.pairs, self.settings, self.seconds = pairs, settings, seconds
        self.step = 0
        self._clock, self._began = clock, clock()
        self._rng = np.random.default_rng(seed)
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=settings.lr, weight_decay=settings.decay)

    @property
    def elapsed(self) -> float:
        """Seconds since construction."""
        return self._clock() - self._began

    @property
    def progress(self) -> float:
        """Completed share of the training, 0 to 1."""
        return min(1.0, self.elapsed / self.seconds)

    def steps(self) -> Iterator[float]:
        """Train until the time is over; yield the loss of each step (nats)."""
        while (done := self.progress) < 1.0:
            rate = self.settings.lr * min(1.0, done / 0.02 + 0.01) * (0.5 + 0.5 * math.cos(math.pi * done))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            loss = self._one_step(self.pairs.draw(self.settings.groups, self.settings.songs))
            self.step += 1
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss} at step {self.step}")
            yield loss

    def _one_step(self, batch: Batch) -> float:
        draw, part = self._rng.random(), self.settings.part
        mode = "harmonic" if draw < part else "percussive" if draw < 2 * part else "both"
        heard = torch.cat([batch.contexts, batch.stems])
        if mode in UNHEARD:
            heard[:, UNHEARD[mode]] = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.step)  # of dropout
            contexts, stems = self.network.train().embed_pooled(heard).chunk(2)
        loss = contrast(self.network.scores(contexts, stems), batch.groups)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        keep = min(self.settings.smoothing, (1 + self.step) / (10 + self.step))
        for kept, now in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(now, 1 - keep)
        return float(loss.detach())


def contrast(scores: Tensor, groups: Tensor) -> Tensor:
    """scores [B, B] of contexts (rows) and stems -> symmetric cross entropy (nats) of pair i within its group."""
    alone = groups[:, None] != groups[None, :]
    scores = scores.masked_fill(alone, -math.inf)
    own = torch.arange(len(scores))
    return (nn.functional.cross_entropy(scores, own) + nn.functional.cross_entropy(scores.T, own)) / 2
