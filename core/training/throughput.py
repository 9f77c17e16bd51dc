"""Throughput of training: speed of steps, share of data wait, and share of the machine's best rate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from accomp.core.compute.roofline import matmul_rate
from accomp.core.model.future_heads import give_heads
from accomp.core.music.timelines import KINDS
from accomp.core.registry import Registry
from accomp.core.spec.build import build_model, build_objective, without_memory
from accomp.core.spec.schema import Spec
from accomp.core.types import Batch, TokenSpace


class Timed(NamedTuple):
    """Timed steps, their seconds, and the seconds of these that passed in waiting for a batch."""

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def data_wait(self) -> float:
        """Share of the time in which the loop waited for data; an upper bound where it ran ahead of a GPU."""
        return self.waited / self.seconds if self.seconds else 0.0

    def since(self, before: Timed) -> Timed:
        """Subtract the state `before`."""
        return Timed(self.steps - before.steps, self.seconds - before.seconds, self.waited - before.waited)


class StepTimer:
    """A stopwatch over steps, paused during validation and checkpoints.

    Attributes:
        total: the timed steps.
    """

    def __init__(self) -> None:
        self.total = Timed()
        self._begun: Timed | None = None

    def go(self, step: int, waited: float) -> None:
        """Start, with `step` steps done and `waited` seconds of data wait so far. The device must be idle."""
        self._begun = Timed(step, time.perf_counter(), waited)

    def rest(self, step: int, waited: float) -> None:
        """Pause and add the steps since `go`, if there was one. The device must be idle."""
        if self._begun is not None:
            lap, total = Timed(step, time.perf_counter(), waited).since(self._begun), self.total
            self.total = Timed(total.steps + lap.steps, total.seconds + lap.seconds, total.waited + lap.waited)
            self._begun = None


def step_flops(spec: Spec, space: TokenSpace, registry: Registry) -> int:
    """Count the multiplications and additions of matrix products in one device's optimizer step, forward and backward.

    They are counted on meta tensors. Attention counts in full, also where a mask lets a kernel skip half of it.
    """
    frames = spec.train.frames
    model = without_memory(lambda: build_model(spec, space, registry)).to("meta").train()
    with torch.device("meta"):
        labels = {name: torch.zeros(1, dtype=torch.int64) for name in spec.conditions.labels}
        batch = Batch(
            torch.zeros(1, frames, space.latent_dim),
            torch.zeros(1, space.channels, frames, dtype=torch.float32 if space.continuous else torch.int64),
            torch.ones(1, frames, dtype=torch.bool),
            labels,
            {name: torch.zeros(1, frames, KINDS[name].width) for name in spec.conditions.timelines},
        )
    objective = build_objective(spec, space, registry)
    with torch.device("meta"):
        give_heads(model, 0, objective)
    with FlopCounterMode(display=False) as counter:
        objective.loss(model, batch, model.clock, torch.Generator().manual_seed(0)).total.backward()
    return counter.get_total_flops() * spec.train.batch * spec.train.accumulate


def arithmetic(precision: str) -> torch.dtype:
    """Return the type in which matrices are multiplied at a precision of [run]."""
    names = {"32": torch.float32, "64": torch.float64, "16": torch.float16, "bf16": torch.bfloat16}
    return names[precision.split("-")[0]]


def speed_record(
    spec: Spec, space: TokenSpace, registry: Registry, timed: Timed, clips: int, device: torch.device
) -> dict[str, Any]:
    """Compare the throughput of timed steps of `clips` clips with the device's best rate of matrix products."""
    dtype = arithmetic(spec.run.precision)
    flops = step_flops(spec, space, registry) * timed.steps / timed.seconds
    peak = matmul_rate(device, dtype)
    return {
        "clips_per_second": timed.steps * clips / timed.seconds,
        "data_wait": timed.data_wait,
        "flops": flops,
        "arithmetic": str(dtype).removeprefix("torch."),
        "matmul_rate": peak,
        "matmul_share": flops / peak,
    }


def describe_speed(record: Mapping[str, Any]) -> str:
    """Describe a record of kind "speed" in one line."""
    return (
        f"{record['clips_per_second']:.3g} clips/s while learning; {record['data_wait']:.1%} of the time waiting for "
        f"data; {record['flops'] / 1e12:.3g} TFLOP/s a device, {record['matmul_share']:.0%} of what it reaches in big "
        f"matrix products ({record['arithmetic']})"
    )
