"""`accomp bench offline`: streaming against offline, the same music."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.core.bench.live import clock_of
from accomp.core.bench.records.record import BenchRow
from accomp.core.bench.subject import BenchModel
from accomp.core.bench.variants import compiled_names, variants
from accomp.core.compute.devices import PLAYING_THREADS
from accomp.core.model.guidance import Guidance
from accomp.core.model.model import Model
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.precision import prepared
from accomp.core.streaming.session import TokenSession


@frozen
class Offline:
    """Codes of a session that hears a frame at a time, against those of one that hears the clip at once; and its
    logits, against those of one teacher-forced pass over the clip (k = 1, float32).

    Attributes:
        frames: of the clip, at most the spec's window.
        variants: compiled ones whose codes are compared as well.
    """

    default: ClassVar[str] = "quickstart"
    threads: ClassVar[int | None] = PLAYING_THREADS

    frames: int = field(default=100, validator=v.ge(8))
    variants: tuple[str, ...] = ()

    def parts(self) -> Sequence[Offline]:
        """A benchmark for each compiled variant."""
        return [Offline(8, (one,)) for one in self._compiled()]

    def compile(self, subject: BenchModel) -> None:
        """Play a short clip with each variant."""
        list(self.lines(subject))

    def lines(self, subject: BenchModel) -> Iterator[BenchRow]:
        """Yield a row for the eager model, and one for each variant."""
        clock_of(subject, k="1")
        model, frames = subject.model(), min(self.frames, subject.spec.train.frames)
        x, recorder = subject.latents(1, frames), _Recorder(subject.sampler())
        whole = self._play(subject, model, recorder, [frames])
        recorder.logits.clear()
        streamed = self._play(subject, model, recorder, [1] * frames)
        figures = {"codes_equal": _equal(streamed, whole), "logits_off": _off(model, x, streamed, recorder.logits)}
        yield subject.line(self, f"eager float32, {frames} frames", figures)
        for one in variants(self._compiled(), subject.device) if self._compiled() else ():
            codes = self._play(subject, prepared(model, one.runtime), subject.sampler(), [1] * frames, one.runtime)
            yield subject.line(self, f"{one.name}, {frames} frames", {"codes_equal": _equal(codes, whole)})

    def _compiled(self) -> list[str]:
        return compiled_names(self.variants) if self.variants else []

    def _play(
        self, subject: BenchModel, model: Model, sampler: Any, pieces: Sequence[int], runtime: Runtime = EAGER
    ) -> Tensor:
        """Play the clip, given in pieces of so many frames -> codes [1, K, T]."""
        session = TokenSession(
            model,
            sampler,
            sessions=torch.zeros(1, dtype=torch.int64),
            labels=_labels(model),
            window=subject.spec.train.frames,
            guidance=Guidance({}),
            runtime=runtime,
        )
        codes = []
        for piece in subject.latents(1, sum(pieces)).split(list(pieces), dim=1):
            session.push(piece)
            codes.append(session.pull().cpu())
        return torch.cat(codes, dim=2)


class _Recorder:
    """A causal sampler that keeps the logits it is given."""

    decoding = "causal"

    def __init__(self, sampler: Any):
        self._sampler = sampler
        self.logits: list[Tensor] = []

    def pick(self, logits: Tensor, rng: Any) -> Tensor:
        """Pick with the wrapped sampler."""
        self.logits.append(logits.cpu())
        picked: Tensor = self._sampler.pick(logits, rng)
        return picked


def _labels(model: Model) -> Mapping[str, Tensor]:
    return {name: torch.zeros(1, dtype=torch.int64) for name in model.classes}


def _equal(ours: Tensor, theirs: Tensor) -> float:
    return float((ours == theirs).float().mean())


@torch.inference_mode()
def _off(model: Model, x: Tensor, codes: Tensor, logits: Sequence[Tensor]) -> float:
    """Largest difference of the logits of each step from those of one pass over the clip, given the same codes."""
    layout, device = model.layout, x.device
    frames = min(x.shape[1], codes.shape[2])
    labels = {name: classes.to(device) for name, classes in _labels(model).items()}
    found = model(x[:, :frames], layout.inputs_of(codes[:, :, :frames].to(device)), labels).cpu()
    wanted = found[..., model.vocabulary.first_code :]  # of all rows, those before the first step included
    rows = min(wanted.shape[2], len(logits))
    return float((torch.stack(list(logits[:rows]), dim=2) - wanted[:, :, :rows]).abs().max())
