"""Sessions of an untrained model on noise, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor

from accomp.core.bench import memory
from accomp.core.bench.subject import BenchModel
from accomp.core.bench.timing import timed
from accomp.core.bench.variants import Variant
from accomp.core.clock import Clock
from accomp.core.errors import UserError
from accomp.core.model.accompanist import Accompanist
from accomp.core.model.guidance import Guidance
from accomp.core.streaming.latent_session import session_of
from accomp.core.streaming.precision import prepared

MB = 1e6


def clock_of(subject: BenchModel, k: str = "") -> Clock:
    """Return the clock of a streaming model. Raises UserError for a spec without one, and for k other than
    requested.
    """
    clock = subject.spec.clock
    if clock is None:
        raise UserError(
            f"objective {subject.spec.objective.plugin!r} needs whole clips and has no steps to time @ {subject.name}"
        )
    if (k == "1" and clock.k > 1) or (k == "more" and clock.k == 1):
        other = "chunk" if clock.k > 1 else "stream"
        raise UserError(
            f"clock.k = {clock.k} is timed by `accomp bench {other}`, or --set clock.k=... @ {subject.name}"
        )
    return clock


class SteadySessions:
    """B sessions in one batch, in steady state: the window is full.

    Attributes:
        first: s until the first step was done, including compilation.
    """

    def __init__(self, subject: BenchModel, model: Accompanist, variant: Variant, batch: int = 1):
        sampler = subject.sampler()
        self.subject, self.batch, self.window = subject, batch, subject.spec.train.frames
        self.runtime, self.model = variant.runtime, prepared(model, variant.runtime)
        self._noise = subject.latents(batch, min(self.window, 500)).unbind(1)
        self._heard = 0

        def begin() -> None:
            self.session = session_of(
                self.model,
                sampler,
                sessions=torch.arange(batch),
                labels={name: torch.zeros(batch, dtype=torch.int64) for name in model.classes},
                window=self.window,
                guidance=Guidance(subject.spec.guidance),
                runtime=variant.runtime,
            )
            self.frame()

        self.first = timed(begin, subject.device)[0]

    def fill(self) -> None:
        """Run frames until the window is full and a chunk has just been played."""
        clock = self.model.layout.clock
        while self._heard < self.window + 1 or (self._heard - clock.t_f) % clock.k:
            self.frame()

    def chunk(self) -> None:
        """Run as many frames as make every step of a chunk."""
        for _ in range(self.model.layout.clock.k):
            self.frame()

    def frame(self) -> Tensor:
        """Push one input frame and return the completed output [B, K, m] on the host."""
        self.session.push(self._noise[self._heard % len(self._noise)][:, None])
        self._heard += 1
        return self.session.pull().cpu()

    @property
    def step_bytes(self) -> int:
        """Count the bytes that a step reads: all weights but embedding tables, and the state of the sessions."""
        tables = [m.weight for m in self.model.modules() if isinstance(m, torch.nn.Embedding)]
        spared = {id(weight) for weight in (*tables, self.model.input_padding)}
        weights = [weight for weight in (*self.model.parameters(), *self.model.buffers()) if id(weight) not in spared]
        return memory.bytes_of(weights) + self.session_bytes * self.batch

    @property
    def session_bytes(self) -> int:
        """Count the bytes of state of each session."""
        return memory.bytes_of(self.session.state) // self.batch
