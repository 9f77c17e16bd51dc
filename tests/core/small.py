"""A model and a codec small enough to be run thousands of times; also a third-party package that provides parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.component import Component
from accomp.core.errors import CombinationError
from accomp.core.hooks import hookimpl
from accomp.core.interfaces import Fuser
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition, TimelineCondition
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.music.timelines import Source
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.session import TokenSession
from accomp.core.types import TokenSpace
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.gated_add import GatedAdd
from accomp.plugins.samplers.top_k import TopK

WIDTH = 16

SPEC = {
    "seed": 3,
    "corpus": {"plugin": "silent"},
    "store": {"path": "store.zarr"},
    "tokenizer": {"plugin": "constant", "codebooks": 3},
    "clock": {"t_f": -2, "k": 1},
    "conditions": {"context": {"drop": 0.1}, "instrument": {"classes": 5, "drop": 0.2}},
    "model": {"width": 16},
    "fuser": {"plugin": "gated_add"},
    "backbone": {"plugin": "llama", "depth": 1, "heads": 4},
    "objective": {"plugin": "ar"},
    "sampler": {"plugin": "top_k", "k": 5},
    "metric": [{"plugin": "counter"}],
    "train": {"steps": 10, "batch": 2, "lr": 1e-3, "frames": 20},
}
"""An experiment of these parts, as a spec file would give it."""


def space_with(codebooks: int = 3, **changes: int) -> TokenSpace:
    """Eight samples a frame, ten codes a level, latents of width 6."""
    usual = {"sample_rate": 400, "hop": 8, "codebook_size": 10, "latent_dim": 6}
    return TokenSpace(**(usual | changes), codebooks=codebooks)


def small_model(
    t_f: int = 0,
    k: int = 1,
    *,
    space: TokenSpace | None = None,
    labels: dict[str, int] | None = None,
    kv_heads: int = 2,
    timelines: tuple[str, ...] = (),
    heard: float = 0.0,
) -> Model:
    """One layer with every weight random, the gate too, so that nothing hides behind a zero; four query heads.

    heard: share of the timelines' clips in which the model's ear supplies them; above 0 it has an ear.
    """
    space = space or space_with()
    classes = {"instrument": 5} if labels is None else labels
    conditions = Conditions(
        ContextCondition(),
        {name: LabelCondition(n) for name, n in classes.items()},
        {name: TimelineCondition(heard=heard) for name in timelines},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        fuser = GatedAdd(GatedAdd.Config(), space, WIDTH)
        backbone = Llama(Llama.Config(depth=1, heads=4, kv_heads=kv_heads), space, WIDTH)
        model = Model(fuser, backbone, space, Clock(t_f, k), conditions, WIDTH)
        for weight in model.parameters():
            weight.data += 0.3 * torch.randn_like(weight)
    return model.eval()


def session_of(
    model: Model,
    sessions: list[int] | int = 2,
    *,
    window: int = 64,
    seed: int = 0,
    sampler: Any = None,
    prompt: Tensor | None = None,
    runtime: Runtime = EAGER,
    guidance: Guidance = UNGUIDED,
    timelines: Sequence[Mapping[str, Source]] = (),
) -> TokenSession:
    """Sessions of these numbers, or 0, 1, ...; the class of every label is the number, wrapped around."""
    numbers = torch.tensor(list(range(sessions)) if isinstance(sessions, int) else sessions)
    sampler = sampler or TopK(TopK.Config(k=6), model.space)
    labels = {name: numbers % classes for name, classes in model.vocabulary.classes.items()}
    return TokenSession(
        model,
        sampler,
        sessions=numbers,
        labels=labels,
        window=window,
        seed=seed,
        guidance=guidance,
        prompt=prompt,
        timelines=timelines,
        runtime=runtime,
    )


class Recorder:
    """A sampler that keeps the logits it was shown from step 0 on, one [B, K, C] a step, and the keys of the noise."""

    decoding = "causal"

    def __init__(self, model: Model, inner: Any = None):
        self.inner = inner or TopK(TopK.Config(k=6), model.space)
        self.logits: list[Tensor] = []
        self.keys: list[Tensor] = []
        self.early = model.layout.start // model.clock.k  # groups of rows before that of step 0

    def pick(self, logits: Tensor, rng: KeyedRandom) -> Tensor:
        self.early -= 1
        if self.early < 0:
            self.logits.append(logits.clone())
            self.keys.append(rng.key.clone())
        return self.inner.pick(logits, rng)


def latents(frames: int, batch: int = 2, seed: int = 0) -> Tensor:
    """Random input [B, T, 6]."""
    return torch.randn(batch, frames, 6, generator=torch.Generator().manual_seed(seed))


class Constant:
    """A codec. Level q of a frame's code is the q-th decimal of the mean of its samples and of `lookahead` more.

    Decoded, a frame is a constant, and all is `delay` samples late.
    """

    name = "constant"

    @frozen
    class Config:
        codebooks: int = 3
        lookahead: int = 0
        delay: int = 0
        fingerprint: str = "small"

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        return space_with(config.codebooks, lookahead=config.lookahead, delay=config.delay)

    def __init__(self, config: Config | None = None):
        config = config or self.Config()
        self.space, self.fingerprint = self.space_of(config), config.fingerprint

    def to(self, device: torch.device | str) -> Constant:
        return self

    def encode(self, audio: Tensor) -> Tensor:
        stream = self.encoder(len(audio))
        return torch.cat([stream.push(audio), stream.flush()], dim=2)

    def decode(self, codes: Tensor) -> Tensor:
        stream = self.decoder(len(codes))
        return torch.cat([stream.push(codes), stream.flush()], dim=1)

    def embed(self, codes: Tensor) -> Tensor:
        return (codes.sum(1)[..., None] * torch.linspace(0.1, 1.0, 6)).sin()

    def encoder(self, batch: int = 1) -> _Encoder:
        return _Encoder(self.space, batch)

    def decoder(self, batch: int = 1) -> _Decoder:
        return _Decoder(self.space, batch)


class _Encoder:
    def __init__(self, space: TokenSpace, batch: int):
        self.space, self.rest = space, torch.zeros(batch, 0)

    def push(self, chunk: Tensor) -> Tensor:
        self.rest = torch.cat([self.rest, chunk], dim=1)
        size = self.space.hop + self.space.lookahead
        codes = [torch.zeros(len(chunk), self.space.codebooks, 0, dtype=torch.int64)]
        while self.rest.shape[1] >= size:
            share = (self.rest[:, :size].double().mean(1).clamp(-1, 1) + 1) * 0.4999
            digits = [(share * 10 ** (q + 1)).long() % 10 for q in range(self.space.codebooks)]
            codes.append(torch.stack(digits, dim=1)[..., None])
            self.rest = self.rest[:, self.space.hop :]
        return torch.cat(codes, dim=2)

    def flush(self) -> Tensor:
        length = self.rest.shape[1]
        return self.push(torch.zeros(len(self.rest), -length % self.space.hop + self.space.lookahead if length else 0))

    def reset(self, rows: Tensor) -> None:
        self.rest[rows] = 0


class _Decoder:
    def __init__(self, space: TokenSpace, batch: int):
        self.space, self.batch, self.early = space, batch, space.delay

    def push(self, chunk: Tensor) -> Tensor:
        audio = (chunk.double().mean(1) / 10).float().repeat_interleave(self.space.hop, dim=1)
        skipped = min(self.early, audio.shape[1])
        self.early -= skipped
        return audio[:, skipped:]

    def flush(self) -> Tensor:
        return torch.zeros(self.batch, self.space.delay)

    def reset(self, rows: Tensor) -> None:
        """Nothing is kept."""


class Silent:
    """A corpus without songs."""

    splits = ("train",)

    @frozen
    class Config:
        pass

    def __init__(self, config: Config):
        self.config = config


class Continuous:
    """A tokenizer of latents without codes."""

    @frozen
    class Config:
        pass

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        return space_with(0, codebook_size=0)


class Filler:
    """A masked sampler."""

    decoding = "masked"

    @frozen
    class Config:
        pass

    def __init__(self, config: Config, space: TokenSpace):
        self.space = space


class Picky:
    """A causal sampler that likes no codec."""

    decoding = "causal"

    @frozen
    class Config:
        pass

    def __init__(self, config: Config, space: TokenSpace):
        raise CombinationError(f"picky takes no {space.codebooks} codebooks")


class Counter:
    """A metric that has nothing to say."""

    @frozen
    class Config:
        pass

    def __init__(self, config: Config, space: TokenSpace):
        self.space = space


class Widthless(Fuser):
    """A fuser that does not say which width it wants."""

    embed_width = 0

    @frozen
    class Config:
        pass

    def __init__(self, config: Config, space: TokenSpace, width: int):
        super().__init__()


@hookimpl
def accomp_components() -> list[Component]:
    return [
        Component("tokenizer", "constant", "small:Constant"),
        Component("tokenizer", "continuous", "small:Continuous"),
        Component("corpus", "silent", "small:Silent"),
        Component("sampler", "filler", "small:Filler"),
        Component("sampler", "picky", "small:Picky"),
        Component("metric", "counter", "small:Counter"),
        Component("fuser", "widthless", "small:Widthless"),
    ]
