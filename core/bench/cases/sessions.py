"""`accomp bench sessions`: largest number of sessions in one batch; memory of one session over hours."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from attrs import field, frozen
from attrs import validators as v

from accomp.core.bench import memory, profile
from accomp.core.bench.live import MB, SteadySessions, clock_of
from accomp.core.bench.records.record import BenchRow
from accomp.core.bench.subject import BenchModel
from accomp.core.bench.timing import Work, interleaved
from accomp.core.bench.variants import Variant, variants
from accomp.core.compute.devices import PLAYING_THREADS
from accomp.core.compute.roofline import copy_bandwidth
from accomp.core.console import progress, warn
from accomp.core.model.model import Model
from accomp.core.runs.player import prepare_codec
from accomp.core.streaming.audio_session import AudioSession

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SAMPLES = 60
"""Memory samples an hour of music, at most; more frequent in less than an hour."""
LEAST_SAMPLES = 20
PROFILED = 20
"""Steps that are profiled."""
SETTLING = 0.1
"""Share of the samples at the beginning that the slope leaves out, while allocators fill their pools."""


@frozen
class Sessions:
    """Growing batches of sessions until one misses its deadline and all loads are reached; with `hours`, one long
    session.

    Attributes:
        batches: batch sizes, in this order.
        steps: of each batch.
        codec: audio in and out, with the spec's tokenizer; else latents in and codes out.
        paced: a step each k frames, as live, instead of one right after the other.
        variant: runtime variant; as the spec's [runtime] says where none is named.
        loads: shares of real time: as many sessions as take such a share, extrapolated from `batches`, are played in
            real time, to count their late steps.
        profile: also print where the time of a step of each batch goes, by kernel (core/bench/profile.py).
        hours: of music, at full speed, with the memory sampled; nothing else is measured then.
    """

    default: ClassVar[str] = "quickstart"
    threads: ClassVar[int | None] = PLAYING_THREADS

    batches: tuple[int, ...] = field(default=BATCHES, validator=v.and_(v.min_len(1), v.deep_iterable(v.ge(1))))
    steps: int = field(default=200, validator=v.ge(1))
    codec: bool = True
    paced: bool = False
    variant: str = ""
    profile: bool = False
    loads: tuple[float, ...] = field(default=(), validator=v.deep_iterable(v.and_(v.gt(0), v.lt(1))))
    hours: float | None = field(default=None, validator=v.optional(v.gt(0)))

    def parts(self) -> Sequence[Sessions]:
        """A benchmark for each batch, or for the one session of the hours."""
        batches = (1,) if self.hours else self.batches
        return [Sessions((batch,), 1, codec=self.codec, variant=self.variant) for batch in batches]

    def compile(self, subject: BenchModel) -> None:
        """Play a chunk with each batch."""
        model = subject.model()
        for batch in self.batches:
            self._player(subject, model, batch, full=False)()

    def lines(self, subject: BenchModel) -> Iterator[BenchRow]:
        """Yield a row for each B, one with the most that kept up, and one a load; or one for the hours."""
        clock_of(subject)
        model = subject.model()
        if self.hours is not None:
            yield self._long(subject, model, self.hours)
            return
        kept_up, in_time, share = 0, True, {0: 0.0}
        best = copy_bandwidth(subject.device)
        for batch in self.batches:
            line, on_time = self._batch(subject, model, batch, self.paced, self._how())
            if (read := line.figures.get("step_mb")) is not None:
                line.figures["bandwidth"] = read * MB / (line.figures["p50_ms"] / 1000) / best
            yield line
            share[batch] = line.figures["rtf"]
            in_time &= on_time
            kept_up = batch if in_time else kept_up
            if not in_time and share[batch] >= max(self.loads, default=0.0):
                break
        most = f"the most without a late step{'; no more were tried' if in_time else ''}"
        yield subject.line(self, f"{most}{self._how()}", {"sessions": kept_up})
        for load in self.loads:
            if batch := _at_load(load, share):
                yield self._batch(subject, model, batch, True, f", {load:.0%} load{self._how(paced=True)}")[0]
            else:
                warn(f"{load:.0%} load is more than the batches that were tried took, or less than one session takes")

    def _batch(self, subject: BenchModel, model: Model, batch: int, paced: bool, how: str) -> tuple[BenchRow, bool]:
        """Measure a step of a batch; also return True where no deadline was missed."""
        clock = clock_of(subject)
        period = clock.k * subject.frame
        gc.collect()
        memory.begin_peak(subject.device)
        play = self._player(subject, model, batch)
        play()  # one-time costs of the codec
        times = interleaved(
            {"step": Work(play, self.steps)},
            1,
            subject.device,
            period=period,
            paced=paced,
            title=f"{batch} sessions",
        )["step"]
        figures = times.figures(period)
        figures |= {"session_mb": play.live.session_bytes / MB, "peak_mb": memory.peak(subject.device) / MB}
        if not self.codec and clock.k == 1:
            figures["step_mb"] = play.live.step_bytes / MB
        if self.profile:
            profile.show_calls(f"a step of {batch} sessions{how}", play, PROFILED, subject.device)
        return subject.line(self, f"{batch} sessions{how}", figures), not times.late

    def _long(self, subject: BenchModel, model: Model, hours: float) -> BenchRow:
        """Measure the growth of memory in one session of hours of music."""
        play = self._player(subject, model, 1)
        steps = math.ceil(hours * 3600 / (clock_of(subject).k * subject.frame))
        count = max(LEAST_SAMPLES, math.ceil(SAMPLES * hours))
        every = max(1, steps // count)
        at: list[float] = []
        sizes: list[int] = []
        with progress("hours", steps) as advance:
            for step in range(steps):
                play()
                if (step + 1) % every == 0:
                    gc.collect()
                    at.append(hours * (step + 1) / steps)
                    sizes.append(memory.in_use(subject.device))
                    advance(every)
        settled = max(0, min(len(at) - 2, int(SETTLING * len(at))))
        figures = {
            "n": float(len(at)),
            "slope_b_per_hour": memory.slope(np.array(at[settled:]), np.array(sizes[settled:])),
            "begin_mb": sizes[settled] / MB,
            "end_mb": sizes[-1] / MB,
        }
        return subject.line(self, f"one session for {hours:g} h of music{self._how()}", figures)

    def _player(self, subject: BenchModel, model: Model, batch: int, *, full: bool = True) -> _Playing:
        chosen = variants([self.variant])[0] if self.variant else Variant("", subject.spec.runtime)
        live = SteadySessions(subject, model, chosen, batch)
        if full:
            live.fill()
        return _Playing(live, self.codec)

    def _how(self, paced: bool = False) -> str:
        return f"{', with the codec' if self.codec else ''}{', paced' if self.paced or paced else ''}"


def _at_load(load: float, share: Mapping[int, float]) -> int:
    """Return the most sessions that take at most this share of the time, by the measured `share` of some numbers.

    0 where one takes more, and where all took less, since the number that would reach it is unknown then.
    """
    batches = sorted(share)
    takes = np.maximum.accumulate([share[batch] for batch in batches])  # times are monotonic in the number of sessions
    return int(np.interp(load, takes, batches, right=0) + 1e-6)


class _Playing:
    """k frames of B sessions at each call: with the codec from audio to audio."""

    def __init__(self, live: SteadySessions, codec: bool):
        self.live, self._k = live, live.model.layout.clock.k
        self._sound = None
        if codec:
            subject = live.subject
            self._sound = subject.audio(live.batch, self._k)
            tokenizer = subject.tokenizer()
            prepare_codec(tokenizer, live.runtime, subject.device, live.batch)
            self._session = AudioSession(tokenizer, live.session)

    @torch.inference_mode()
    def __call__(self) -> None:
        if self._sound is None:
            for _ in range(self._k):
                self.live.frame()
        else:
            self._session.push(self._sound)
            self._session.pull(ahead=True).cpu()
