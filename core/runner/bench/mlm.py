"""`accomp bench mlm`: ten seconds by a model that hears whole clips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from attrs import field, frozen
from attrs import validators as v

from accomp.core.errors import UserError
from accomp.core.guidance import Guidance
from accomp.core.offline.compose import compose
from accomp.core.runner.bench import memory
from accomp.core.runner.bench.live import MB
from accomp.core.runner.bench.record import Line
from accomp.core.runner.bench.subject import Subject
from accomp.core.runner.bench.timing import Work, interleaved, timed
from accomp.core.runner.computing import PLAYING_THREADS


@frozen
class Mlm:
    """A clip of so many seconds, sampled with the spec's sampler and guidance.

    Attributes:
        seconds: of music.
        repeat: how often, after once that warms up.
    """

    default: ClassVar[str] = "stemgen_small"
    threads: ClassVar[int | None] = PLAYING_THREADS

    seconds: float = field(default=10.0, validator=v.gt(0))
    repeat: int = field(default=5, validator=v.ge(1))

    def lines(self, subject: Subject) -> Iterator[Line]:
        """One line."""
        if subject.spec.clock is not None:
            raise UserError(f"{subject.spec.clock} plays while it listens: `accomp bench stream` @ {subject.name}")
        memory.begin_peak(subject.device)
        model, sampler, guidance = subject.model(), subject.sampler(), Guidance(subject.spec.guidance)
        frames = max(1, round(self.seconds / subject.frame))
        x = subject.latents(1, frames)
        labels = {name: torch.zeros(1, dtype=torch.int64) for name in model.vocabulary.classes}
        forwards = 0

        def counted(*_: object) -> None:
            nonlocal forwards
            forwards += 1

        def clip() -> None:
            compose(
                model,
                sampler,
                x,
                sessions=torch.zeros(1, dtype=torch.int64),
                labels=labels,
                window=subject.spec.train.frames,
                guidance=guidance,
            ).cpu()

        counting = model.backbone.register_forward_hook(counted)
        first = timed(clip, subject.device)[0]
        counting.remove()
        times = interleaved({"clip": Work(clip)}, self.repeat, subject.device, told="clip")["clip"]
        figures = times.figures(frames * subject.frame)
        del figures["late_per_hour"]
        figures |= {
            "forwards": forwards,
            "forwards_s": forwards / (figures["p50_ms"] / 1000),
            "compile_s": first,
            "peak_mb": memory.peak(subject.device) / MB,
        }
        told = f", guidance {' '.join(guidance.scales)}" if guidance.scales else ""
        yield subject.line(self, f"{self.seconds:g} s, window of {subject.spec.train.frames} frames{told}", figures)
