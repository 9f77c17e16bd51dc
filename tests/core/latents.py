"""Small models of latents with random weights, in float64, and plain arithmetic to compare them with."""

from __future__ import annotations

import torch
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.diffusion.latent_model import LatentModel
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition, TimelineCondition
from accomp.core.model.guidance import UNGUIDED
from accomp.core.streaming.latent_session import LatentSession
from accomp.core.types import Batch, TokenSpace
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.add import Add
from accomp.plugins.samplers.euler import Euler

E, WIDTH = 5, 16
SPACE = TokenSpace(32000, 640, codebooks=0, codebook_size=0, latent_dim=E)
TOLD = Conditions(
    ContextCondition(0.2), {"instrument": LabelCondition(classes=3, drop=0.2)}, {"metronome": TimelineCondition(0.2)}
)


def model(t_f: int, k: int, regime: str = "block_causal", conditions: Conditions | None = None) -> LatentModel:
    """Two layers, two key heads for four."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        backbone = Llama(Llama.Config(depth=2, heads=4, kv_heads=2), SPACE, WIDTH)
        made = LatentModel(
            Add(Add.Config(), SPACE, WIDTH), backbone, SPACE, Clock(t_f, k), conditions or Conditions(), WIDTH, regime
        )
        for weight in made.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    return made.double().eval()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(frames: int, items: int = 2, seed: int = 0, **more) -> Batch:
    x, y = normal(items, frames, E, seed=seed), normal(items, E, frames, seed=seed + 1)
    return Batch(x, y, torch.ones(items, frames, dtype=torch.bool), **{"labels": {}, **more})


def euler(steps: int = 3, **config) -> Euler:
    return Euler(Euler.Config(steps=steps, **config), SPACE)


def session(made: LatentModel, window: int, items: int = 2, sampler=None, guidance=UNGUIDED, **how) -> LatentSession:
    options = {"sessions": torch.arange(items), "labels": {name: torch.zeros(items).long() for name in made.classes}}
    return LatentSession(made, sampler or euler(), window=window, guidance=guidance, **{**options, **how})


def played(live: LatentSession, x: Tensor, cuts: list[int] | None = None) -> Tensor:
    """All that comes out, ahead of the input and with it, in pieces of so many frames."""
    out = [live.pull()]
    for piece in x.split(cuts or [x.shape[1]], dim=1):
        live.push(piece)
        out.append(live.pull())
    return torch.cat(out, dim=2)


def noise_of(sessions: Tensor, frame: int, k: int, number: int, seed: int = 0) -> Tensor:
    """[B, E, k], as a session draws it."""
    key = KeyedRandom.of_sessions(seed, sessions, 1)
    return key.fold(frame + torch.arange(k)).fold(number).normal(E).mT.double()


def plainly(made: LatentModel, x: Tensor, past: Tensor, noisy: Tensor, t: float, n: int, labels=None) -> Tensor:
    """The velocity [B, k, E] of the block after `past` [B, P, E], from the definition: all rows at once, no state.

    n: blocks of a window. A row of the block that starts at s holds input frame f + t_f - k; blocks in front of the
    output hold `blank`.
    """
    t_f, k = made.clock.t_f, made.clock.k
    P = past.shape[1]
    front = max(0, -(-(t_f - k) // k)) * k
    inputs = torch.cat([made.input_padding.expand(len(x), -1, -1), x], dim=1)
    frames = torch.arange(-front, P + k)
    heard = inputs[:, frames + t_f - k + len(made.input_padding)]
    level = torch.full((1, 1), t, dtype=torch.float64)
    e = torch.cat([made.blank.expand(len(x), front, -1), made.clean(past), made.noisy(noisy, level)], dim=1)
    h = made.fuser.fuse(made.fill_absent(heard), e, made.start(labels or {}))
    block = torch.arange(front + P + k) // k
    last = int(block[-1])
    if made.regime == "block_causal":
        sees = (block <= block[:, None]) & (block > block[:, None] - n)
    else:
        there = block > last - n
        sees = (there & (block < last)) | ((block == last)[:, None] & there) | torch.eye(len(block)).bool()
    from accomp.core.types import AttentionPattern

    out = made.backbone(h, sight=AttentionPattern(torch.arange(len(block))[None], sees[None]))
    return made.out(out[:, -k:])


class Means:
    """A codec of continuous latents: the means of the E parts of a frame; decoded, each lasts as long as its part."""

    name, fingerprint, space = "means", "means", SPACE

    def to(self, device: torch.device | str) -> Means:
        return self

    def embed(self, latents: Tensor) -> Tensor:
        return latents.transpose(1, 2)

    def encoder(self, batch: int = 1) -> _Means:
        return _Means(batch)

    def decoder(self, batch: int = 1) -> _Steps:
        return _Steps()


class _Means:
    def __init__(self, batch: int):
        self.rest = torch.zeros(batch, 0)

    def push(self, chunk: Tensor) -> Tensor:
        self.rest = torch.cat([self.rest, chunk], dim=1)
        whole = self.rest.shape[1] // SPACE.hop
        frames, self.rest = self.rest[:, : whole * SPACE.hop], self.rest[:, whole * SPACE.hop :]
        return frames.unflatten(1, (whole, E, SPACE.hop // E)).mean(3).transpose(1, 2)

    def flush(self) -> Tensor:
        return self.push(torch.zeros(len(self.rest), -self.rest.shape[1] % SPACE.hop))

    def reset(self, rows: Tensor) -> None:
        self.rest[rows] = 0


class _Steps:
    def push(self, chunk: Tensor) -> Tensor:
        return chunk.transpose(1, 2).float().flatten(1).repeat_interleave(SPACE.hop // E, dim=1)

    def flush(self) -> Tensor:
        return torch.zeros(0, 0)

    def reset(self, rows: Tensor) -> None:
        """No state."""
