"""`accomp bench stream`: one session, a frame at a time (k = 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

from attrs import field, frozen
from attrs import validators as v

from accomp.core.bench import memory, profile
from accomp.core.bench.live import MB, SteadySessions, clock_of
from accomp.core.bench.records.record import BenchRow
from accomp.core.bench.subject import BenchModel
from accomp.core.bench.timing import Work, compare_to_first, interleaved
from accomp.core.bench.variants import compiled_names, variants
from accomp.core.compute.devices import PLAYING_THREADS
from accomp.core.compute.roofline import copy_bandwidth

BLOCK = 25
"""Successive steps of one variant."""


@frozen
class Stream:
    """The model's step at k = 1, with a full window; the variants interleaved, compared with the first of them.

    Attributes:
        steps: of each variant; from 1000 on, the 99.9th percentile is reported.
        paced: a step each frame, as live, instead of one right after the other.
        variants: names; all where none is given.
        profile: also print where the time of each goes, by kernel (core/bench/profile.py).
    """

    default: ClassVar[str] = "quickstart"
    threads: ClassVar[int | None] = PLAYING_THREADS

    steps: int = field(default=1000, validator=v.ge(1))
    paced: bool = False
    variants: tuple[str, ...] = ()
    profile: bool = False

    def parts(self) -> Sequence[Stream]:
        """A benchmark for each compiled variant."""
        return [Stream(variants=(one,)) for one in compiled_names(self.variants)]

    def compile(self, subject: BenchModel) -> None:
        """Compile the steps of the variants."""
        model = subject.model()
        for one in variants(self.variants, subject.device):
            SteadySessions(subject, model, one).chunk()

    def lines(self, subject: BenchModel) -> Iterator[BenchRow]:
        """Yield a row a variant."""
        clock_of(subject, k="1")
        memory.begin_peak(subject.device)
        model = subject.model()
        live = {one.name: SteadySessions(subject, model, one) for one in variants(self.variants, subject.device)}
        for one in live.values():
            one.fill()
        times = interleaved(
            {name: Work(one.frame, min(BLOCK, self.steps)) for name, one in live.items()},
            math.ceil(self.steps / BLOCK),
            subject.device,
            period=subject.frame,
            paced=self.paced,
            title="stream",
        )
        against_first, peak = compare_to_first(times), memory.peak(subject.device)
        bandwidth = copy_bandwidth(subject.device)
        for name, one in live.items():
            figures = times[name].figures(subject.frame) | against_first[name]
            figures |= {
                "step_mb": one.step_bytes / MB,
                "session_mb": one.session_bytes / MB,
                "bandwidth": one.step_bytes / (figures["p50_ms"] / 1000) / bandwidth,
                "compile_s": one.first,
                "peak_mb": peak / MB,
            }
            yield subject.line(self, f"{name}{', paced' if self.paced else ''}", figures)
            if self.profile:
                profile.show_steps(f"a step of {name}", one, bandwidth)
