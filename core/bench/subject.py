"""Subject of a benchmark: the untrained parts of a spec at their sizes, with noise as input."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch
from attrs import frozen
from torch import Tensor

from accomp.core.bench.records.record import BenchRow, on_cpu
from accomp.core.compute.devices import device_of
from accomp.core.interfaces import CausalSampler, DenoisedSampler, MaskedSampler, Tokenizer
from accomp.core.model.model import Model
from accomp.core.registry import Registry
from accomp.core.spec.build import build_model, build_sampler, build_tokenizer, check_combination, space_of
from accomp.core.spec.schema import Spec, load_spec
from accomp.core.types import TokenSpace


@frozen(eq=False)
class BenchModel:
    """A spec on a device, without corpus, store or training; a tokenizer's weights are needed only where it is used.

    Attributes:
        name, settings: the spec as it was named, and its overrides.
    """

    name: str
    settings: tuple[str, ...]
    spec: Spec
    registry: Registry
    device: torch.device

    @property
    def space(self) -> TokenSpace:
        """Token space of the spec's tokenizer."""
        return space_of(self.spec, self.registry)

    @property
    def frame(self) -> float:
        """Duration of a codec frame (s)."""
        return 1 / self.space.frame_rate

    def model(self) -> Model:
        """The model, prepared for playing."""
        return build_model(self.spec, self.space, self.registry).to(self.device).eval()

    def sampler(self) -> CausalSampler | MaskedSampler | DenoisedSampler:
        """The sampler."""
        return build_sampler(self.spec, self.space, self.registry)

    def tokenizer(self) -> Tokenizer:
        """The codec, with its weights."""
        return build_tokenizer(self.spec, self.registry).to(self.device)

    def latents(self, batch: int, frames: int) -> Tensor:
        """Return random input [B, T, E] on the device."""
        noise = torch.Generator().manual_seed(0)
        return torch.randn(batch, frames, self.space.latent_dim, generator=noise).to(self.device)

    def audio(self, batch: int, frames: int) -> Tensor:
        """Return random audio [B, T * hop] on the device, well below full scale."""
        noise = torch.Generator().manual_seed(0)
        return 0.1 * torch.randn(batch, frames * self.space.hop, generator=noise).to(self.device)

    def line(self, bench: object, case: str, figures: dict[str, float]) -> BenchRow:
        """Return a row of the record; the class of `bench` is the benchmark's name."""
        where = on_cpu(torch.get_num_threads()) if self.device.type == "cpu" else self.device.type
        return BenchRow(type(bench).__name__.lower(), self.name, self.settings, where, case, figures)


def subject(
    name: str,
    settings: Sequence[str],
    registry: Registry,
    *,
    device: str | None = None,
    threads: int | None = None,
) -> BenchModel:
    """Build a spec by name or file; `device` and `threads` override those of its [run].

    Raises UserErrors for an invalid spec and an unavailable device.
    """
    spec = load_spec(name, registry, settings)
    run = attrs.evolve(spec.run, threads=threads or spec.run.threads)
    found = device_of(device or spec.run.accelerator)
    check_combination(spec, registry)
    return BenchModel(name, tuple(settings), attrs.evolve(spec, run=run), registry, found)
