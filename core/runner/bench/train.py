"""`accomp bench train`: an optimizer step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import attrs
import torch
from attrs import field, frozen
from attrs import validators as v
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from accomp.core.runner.bench import memory
from accomp.core.runner.bench.live import MB
from accomp.core.runner.bench.record import Line
from accomp.core.runner.bench.subject import Subject
from accomp.core.runner.bench.timing import Work, interleaved, timed
from accomp.core.runner.computing import fabric_of, own_randomness
from accomp.core.runner.peaks import matmul_rate
from accomp.core.runner.untrained import training_step
from accomp.core.spec import Spec


@frozen
class Train:
    """Steps of AdamW at the spec's batch, clip length and precision; codes are random, so no loader is waited for.

    Attributes:
        repeat: how often, after once that warms up.
    """

    default: ClassVar[str] = "quickstart"
    threads: ClassVar[int | None] = None

    repeat: int = field(default=5, validator=v.ge(1))

    def lines(self, subject: Subject) -> Iterator[Line]:
        """One line."""
        spec, device = subject.spec, subject.device
        fabric = fabric_of(attrs.evolve(spec.run, accelerator=device.type, devices=1))  # type: ignore[arg-type]
        train = spec.train
        memory.begin_peak(device)
        with own_randomness(device):
            step = training_step(spec, subject.space, subject.registry, fabric)
            first = timed(step, device)[0]
            times = interleaved({"step": Work(step)}, self.repeat, device, told="train")["step"]
        peak = memory.peak(device)
        clips = train.batch * train.accumulate
        figures = times.figures(clips * train.frames * subject.frame)
        del figures["late_per_hour"], figures["rtf"]
        seconds = figures["p50_ms"] / 1000
        figures |= {
            "frames_s": clips * train.frames / seconds,
            "matmul": operations(subject) / seconds / matmul_rate(device, arithmetic(spec)),
            "compile_s": first,
            "peak_mb": peak / MB,
        }
        yield subject.line(self, f"{clips} clips of {train.frames} frames, {spec.run.precision}", figures)


def arithmetic(spec: Spec) -> torch.dtype:
    """What matrices are multiplied in, by Lightning Fabric's name of the precision."""
    kinds = {"bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32, "64": torch.float64}
    return kinds[spec.run.precision.partition("-")[0]]


def operations(subject: Subject) -> float:
    """Multiplications and additions in the matrix products of a step, there and back; attention counts every pair.

    Counted on one clip, times the clips of a step: what is added for weights alone, such as AdamW, is no product.
    """
    spec = subject.spec
    one = attrs.evolve(spec, train=attrs.evolve(spec.train, batch=1, accumulate=1))
    fabric = fabric_of(attrs.evolve(spec.run, accelerator="cpu", devices=1, precision="32-true"))
    with own_randomness(torch.device("cpu")):
        step = training_step(one, subject.space, subject.registry, fabric)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            step()
    return float(counter.get_total_flops()) * spec.train.batch * spec.train.accumulate
