"""`accomp bench codec`: streamed encoding and decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any, ClassVar

from attrs import field, frozen
from attrs import validators as v

from accomp.core.bench import memory
from accomp.core.bench.live import MB
from accomp.core.bench.records.record import BenchRow
from accomp.core.bench.subject import BenchModel
from accomp.core.bench.timing import Work, interleaved, speeds
from accomp.core.compute.devices import PLAYING_THREADS
from accomp.core.console import warn
from accomp.core.errors import PluginError
from accomp.core.interfaces import Tokenizer

_positive: Any = v.and_(v.min_len(1), v.deep_iterable(v.ge(1)))


@frozen
class Codec:
    """Pushes of some frames to a stream, interleaved with the same audio in one call.

    Attributes:
        frames: of a push.
        batches: concurrent sessions.
        seconds: of audio in a round.
        repeat: rounds, after one of warm-up.
    """

    default: ClassVar[str] = "quickstart"
    threads: ClassVar[int | None] = PLAYING_THREADS

    frames: tuple[int, ...] = field(default=(1, 5, 25), validator=_positive)
    batches: tuple[int, ...] = field(default=(1,), validator=_positive)
    seconds: float = field(default=4.0, validator=v.gt(0))
    repeat: int = field(default=5, validator=v.ge(1))

    def parts(self) -> Sequence[Codec]:
        """A benchmark for each batch and number of frames."""
        return [Codec((frames,), (batch,)) for batch in self.batches for frames in self.frames]

    def compile(self, subject: BenchModel) -> None:
        """Compile the streams, where the codec can."""
        tokenizer = subject.tokenizer()
        for batch in self.batches:
            for frames in self.frames:
                _prepared(tokenizer, batch, frames)

    def lines(self, subject: BenchModel) -> Iterator[BenchRow]:
        """Yield a row for each direction, batch and size of a push; p50 and so on are those of a push."""
        tokenizer = subject.tokenizer()
        for batch in self.batches:
            yield from self._batch(subject, tokenizer, batch)

    def _batch(self, subject: BenchModel, tokenizer: Tokenizer, batch: int) -> Iterator[BenchRow]:
        whole = max(1, round(self.seconds / subject.frame))
        sizes = {size: max(1, math.ceil(whole / size)) for size in self.frames}  # -> pushes a round
        works: dict[tuple[str, int, str], Work] = {}  # of each direction, size of a push, and "compiled" or ""
        periods: dict[tuple[str, int, str], float] = {}
        memory.begin_peak(subject.device)
        for verb, pushes in (("encode", _encoding), ("decode", _decoding)):
            call = pushes(subject, tokenizer, batch, whole, streamed=False)
            works[verb, 0, ""], periods[verb, 0, ""] = Work(call), whole * subject.frame
            for size, count in sizes.items():
                for how in ("", "compiled"):
                    if how and not _prepared(tokenizer, batch, size):
                        continue
                    push = pushes(subject, tokenizer, batch, size, streamed=True)
                    works[verb, size, how], periods[verb, size, how] = Work(push, count), size * subject.frame
                tokenizer = subject.tokenizer()  # whose streams are not compiled
        names = {key: " ".join(map(str, key)) for key in works}
        for work in works.values():
            for _ in range(work.block):
                work.run()
        times = interleaved(
            {names[key]: work for key, work in works.items()},
            self.repeat,
            subject.device,
            period={names[key]: period for key, period in periods.items()},
            title=f"codec, batch {batch}",
        )
        peak = memory.peak(subject.device)
        for key in works:
            verb, size, compiled = key
            taken, period = times[names[key]], periods[key]
            figures = taken.figures(period)
            if "cpu_ms" in figures:
                figures["cpu_rtf"] = float(taken.cpu.mean()) / period
            if size:
                one_call = times[names[verb, 0, ""]].wall.mean(axis=1) / periods[verb, 0, ""]
                figures |= speeds(taken.wall.mean(axis=1) / period, one_call)
            figures["peak_mb"] = peak / MB
            how = f"{size} {'frame' if size == 1 else 'frames'} a push" if size else f"one call of {whole} frames"
            yield subject.line(self, f"{verb}, batch {batch}, {how}{', compiled' if compiled else ''}", figures)


def _prepared(tokenizer: Tokenizer, batch: int, frames: int) -> bool:
    """Compile streams that are opened from now on; False, with the reason printed, where the codec cannot."""
    if not hasattr(tokenizer, "prepare"):
        return False
    try:
        tokenizer.prepare(batch, frames)
    except PluginError as error:
        warn(f"{tokenizer.name} is not compiled: {error}")
        return False
    return True


def _encoding(
    subject: BenchModel, tokenizer: Tokenizer, batch: int, frames: int, *, streamed: bool
) -> Callable[[], Any]:
    """Return a function that encodes some frames of noise, as a stream's next push or as one call."""
    sound = subject.audio(batch, frames)
    if not streamed:
        return lambda: tokenizer.encode(sound).cpu()
    stream = tokenizer.encoder(batch)
    return lambda: stream.push(sound).cpu()


def _decoding(
    subject: BenchModel, tokenizer: Tokenizer, batch: int, frames: int, *, streamed: bool
) -> Callable[[], Any]:
    """Return the same for decoding, of the codes of noise."""
    codes = tokenizer.encode(subject.audio(batch, max(25, frames)))
    if not streamed:
        return lambda: tokenizer.decode(codes[:, :, :frames]).cpu()
    stream = tokenizer.decoder(batch)
    parts = cycle(codes[:, :, : codes.shape[2] // frames * frames].split(frames, dim=2))
    return lambda: stream.push(next(parts)).cpu()
