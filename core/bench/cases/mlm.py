"""`accomp bench mlm`: ten seconds of a model of whole clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import attrs
import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from accomp.core.bench import memory, profile
from accomp.core.bench.live import MB
from accomp.core.bench.records.record import BenchRow
from accomp.core.bench.subject import BenchModel
from accomp.core.bench.timing import Work, compare_to_first, interleaved, timed
from accomp.core.bench.variants import Variant, compiled_names, variants
from accomp.core.compute.devices import PLAYING_THREADS
from accomp.core.compute.roofline import matmul_rate
from accomp.core.errors import UserError
from accomp.core.interfaces import MaskedSampler
from accomp.core.model.guidance import Guidance
from accomp.core.model.model import Model
from accomp.core.model.tokens import MASK
from accomp.core.offline.compose import compose
from accomp.core.offline.framewise import Framewise, hidden
from accomp.core.streaming.precision import prepared


@frozen
class Mlm:
    """A clip of some seconds, sampled with the spec's sampler and guidance; the variants interleaved.

    Autoregressive models of whole clips are never compiled, and only eager variants are run for them.

    Attributes:
        seconds: of music.
        repeat: repetitions, after one that warms up and compiles.
        variants: names; all where none is given.
        profile: also print where the time of a clip goes, by kernel (core/bench/profile.py).
    """

    default: ClassVar[str] = "stemgen_small"
    threads: ClassVar[int | None] = PLAYING_THREADS

    seconds: float = field(default=10.0, validator=v.gt(0))
    repeat: int = field(default=5, validator=v.ge(1))
    variants: tuple[str, ...] = ()
    profile: bool = False

    def parts(self) -> Sequence[Mlm]:
        """A benchmark for each compiled variant."""
        return [attrs.evolve(self, repeat=1, variants=(one,), profile=False) for one in compiled_names(self.variants)]

    def compile(self, subject: BenchModel) -> None:
        """Sample a clip with each of the variants."""
        model = subject.model()
        for one in self._chosen(subject):
            self._clip(subject, model, one)[0]()

    def lines(self, subject: BenchModel) -> Iterator[BenchRow]:
        """Yield a row a variant."""
        if subject.spec.clock is not None:
            raise UserError(f"{subject.spec.clock} plays while it listens: `accomp bench stream` @ {subject.name}")
        chosen = self._chosen(subject)
        memory.begin_peak(subject.device)
        model = subject.model()
        clips, first, forwards = {}, {}, 0
        for one in chosen:
            clips[one.name], framewise = self._clip(subject, model, one)
            first[one.name] = timed(clips[one.name], subject.device)[0]
            forwards = framewise.forwards
        works = {name: Work(clip) for name, clip in clips.items()}
        times = interleaved(works, self.repeat, subject.device, title="clips")
        against_first, peak = compare_to_first(times), memory.peak(subject.device)
        flops = self._flops(subject, model) if forwards else 0
        best = {one.name: matmul_rate(subject.device, _arithmetic(one, subject.device)) for one in chosen}
        scales = subject.spec.guidance
        setting = f"{self.seconds:g} s, window of {subject.spec.train.frames} frames"
        setting += f", guidance {' '.join(scales)}" if scales else ""
        for name, taken in times.items():
            figures = taken.figures(self.frames(subject) * subject.frame) | against_first[name]
            del figures["late_per_hour"]
            if forwards:
                rate = forwards / (figures["p50_ms"] / 1000)
                figures |= {"forwards": forwards, "forwards_s": rate, "matmul": flops * rate / best[name]}
            yield subject.line(self, f"{name}, {setting}", figures | {"compile_s": first[name], "peak_mb": peak / MB})
            if self.profile:
                profile.show_calls(f"a clip of {name}", clips[name], 1, subject.device)

    def frames(self, subject: BenchModel) -> int:
        """Frames of the clip."""
        return max(1, round(self.seconds / subject.frame))

    def _flops(self, subject: BenchModel, model: Model) -> int:
        """Count the multiplications and additions of matrix products in a forward."""
        guidance = Guidance(subject.spec.guidance)
        x, labels = guidance.spread(
            subject.latents(1, self.frames(subject)),
            {name: torch.zeros(1, dtype=torch.int64, device=subject.device) for name in model.vocabulary.classes},
        )
        canvas = torch.full((len(x), model.space.codebooks, x.shape[1]), MASK, device=x.device)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model.level_logits(hidden(model, x, canvas, labels), 0)
        return counter.get_total_flops()

    def _chosen(self, subject: BenchModel) -> list[Variant]:
        found = variants(self.variants, subject.device)
        if isinstance(subject.sampler(), MaskedSampler):
            return found
        if compiled := [one.name for one in found if one.runtime.compile == "on" and self.variants]:
            raise UserError(
                f"objective {subject.spec.objective.plugin!r} plays frame by frame and is never compiled; leave out "
                f"{', '.join(compiled)} @ --variant"
            )
        return [one for one in found if one.runtime.compile == "off"]

    def _clip(self, subject: BenchModel, model: Model, variant: Variant) -> tuple[Callable[[], Tensor], Framewise]:
        """Return what samples a clip, and what counts its forwards."""
        ready, guidance = prepared(model, variant.runtime), Guidance(subject.spec.guidance)
        framewise = Framewise(ready, guidance, variant.runtime)
        x, sessions = subject.latents(1, self.frames(subject)), torch.zeros(1, dtype=torch.int64)
        labels = {name: torch.zeros(1, dtype=torch.int64) for name in model.vocabulary.classes}
        how: Any = {"sessions": sessions, "labels": labels, "window": subject.spec.train.frames, "guidance": guidance}
        sampler: Any = subject.sampler()
        return lambda: compose(ready, sampler, x, framewise=framewise, **how).cpu(), framewise


def _arithmetic(variant: Variant, device: torch.device) -> torch.dtype:
    """The type in which a variant multiplies; int8 weights are converted first."""
    whole = variant.runtime.weights == "float32" or (device.type == "cpu" and variant.runtime.weights != "bfloat16")
    return torch.float32 if whole else torch.bfloat16
