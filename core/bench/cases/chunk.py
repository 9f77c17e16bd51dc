"""`accomp bench chunk`: one session with chunks of k > 1 frames."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from attrs import field, frozen
from attrs import validators as v

from accomp.core.bench import memory, profile
from accomp.core.bench.live import MB, SteadySessions, clock_of
from accomp.core.bench.records.record import BenchRow
from accomp.core.bench.subject import BenchModel
from accomp.core.bench.timing import Work, compare_to_first, interleaved, percentiles
from accomp.core.bench.variants import compiled_names, variants
from accomp.core.compute.devices import PLAYING_THREADS
from accomp.core.compute.roofline import synchronize

BLOCK = 5
"""Successive chunks of one variant."""
PROFILED = 2
"""Chunks that are profiled."""


class Chunks:
    """Plays a chunk at a time, with its input frame by frame, as if live.

    Attributes:
        first: s from the last input frame of each chunk to its codes, which are emitted together.
    """

    def __init__(self, live: SteadySessions, k: int):
        self.live, self.k = live, k
        self.first: list[float] = []

    def __call__(self) -> None:
        for _ in range(self.k):
            synchronize(self.live.subject.device)
            began = time.perf_counter()
            if self.live.frame().shape[2]:
                self.first.append(time.perf_counter() - began)


@frozen
class Chunk:
    """Chunks of k frames with a full window: the work for one, and the latency of its listener.

    Attributes:
        steps: chunks of each variant; from 1000 on, the 99.9th percentile is reported.
        variants: names; all where none is given.
        profile: also print where the time of each goes, by kernel (core/bench/profile.py).
    """

    default: ClassVar[str] = "streaming_chunked_small"
    threads: ClassVar[int | None] = PLAYING_THREADS

    steps: int = field(default=100, validator=v.ge(1))
    variants: tuple[str, ...] = ()
    profile: bool = False

    def parts(self) -> Sequence[Chunk]:
        """A benchmark for each compiled variant."""
        return [Chunk(variants=(one,)) for one in compiled_names(self.variants)]

    def compile(self, subject: BenchModel) -> None:
        """Compile the steps of the variants."""
        model = subject.model()
        for one in variants(self.variants, subject.device):
            SteadySessions(subject, model, one).chunk()

    def lines(self, subject: BenchModel) -> Iterator[BenchRow]:
        """Yield a row a variant; times are those of a chunk."""
        k = clock_of(subject, k="more").k
        memory.begin_peak(subject.device)
        model = subject.model()
        works = {}
        for one in variants(self.variants, subject.device):
            live = SteadySessions(subject, model, one)
            live.fill()
            works[one.name] = Chunks(live, k)
        times = interleaved(
            {name: Work(one, min(BLOCK, self.steps)) for name, one in works.items()},
            math.ceil(self.steps / BLOCK),
            subject.device,
            period=k * subject.frame,
            title="chunk",
        )
        against_first, peak = compare_to_first(times), memory.peak(subject.device)
        for name, played in works.items():
            yield subject.line(
                self,
                f"{name}, k = {k}",
                times[name].figures(k * subject.frame)
                | percentiles(np.array(played.first), "first_")
                | against_first[name]
                | {
                    "session_mb": played.live.session_bytes / MB,
                    "compile_s": played.live.first,
                    "peak_mb": peak / MB,
                },
            )
            if self.profile:
                profile.show_calls(f"a chunk of {name}", played, PROFILED, subject.device)
