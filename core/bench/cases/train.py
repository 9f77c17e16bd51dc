"""`accomp bench train`: an optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import attrs
from attrs import field, frozen
from attrs import validators as v

from accomp.core.bench import memory, profile
from accomp.core.bench.live import MB
from accomp.core.bench.records.record import BenchRow
from accomp.core.bench.subject import BenchModel
from accomp.core.bench.timing import Work, interleaved, timed
from accomp.core.compute.devices import own_randomness
from accomp.core.compute.roofline import matmul_rate
from accomp.core.training.fabric import fabric_of
from accomp.core.training.random_init import training_step
from accomp.core.training.throughput import arithmetic, step_flops

PROFILED = 3
"""Steps that are profiled."""


@frozen
class Train:
    """Steps of AdamW at the spec's batch, clip length and precision; codes are random, so that there is no data wait.

    Attributes:
        repeat: repetitions, after one of warm-up.
        profile: also print where the time of a step goes, by kernel (core/bench/profile.py).
    """

    default: ClassVar[str] = "quickstart"
    threads: ClassVar[int | None] = None

    repeat: int = field(default=5, validator=v.ge(1))
    profile: bool = False

    def parts(self) -> Sequence[Train]:
        """One: loss and gradients."""
        return [Train(1)]

    def compile(self, subject: BenchModel) -> None:
        """Run a step."""
        with own_randomness(subject.device):
            self._step(subject)()

    def lines(self, subject: BenchModel) -> Iterator[BenchRow]:
        """Yield one row."""
        spec, device = subject.spec, subject.device
        train = spec.train
        memory.begin_peak(device)
        with own_randomness(device):
            step = self._step(subject)
            first = timed(step, device)[0]
            times = interleaved({"step": Work(step)}, self.repeat, device, title="train")["step"]
            if self.profile:
                profile.show_calls("a training step", step, PROFILED, device)
        peak = memory.peak(device)
        clips = train.batch * train.accumulate
        figures = times.figures(clips * train.frames * subject.frame)
        del figures["late_per_hour"], figures["rtf"]
        seconds, rate = figures["p50_ms"] / 1000, matmul_rate(device, arithmetic(spec.run.precision))
        figures |= {
            "frames_s": clips * train.frames / seconds,
            "matmul": step_flops(spec, subject.space, subject.registry) / seconds / rate,
            "compile_s": first,
            "peak_mb": peak / MB,
        }
        yield subject.line(self, f"{clips} clips of {train.frames} frames, {spec.run.precision}", figures)

    def _step(self, subject: BenchModel) -> Callable[[], None]:
        spec = subject.spec
        run = attrs.evolve(spec.run, accelerator=subject.device.type, devices=1)  # type: ignore[arg-type]
        return training_step(spec, subject.space, subject.registry, fabric_of(run))
