"""The model of continuous latents: velocities = out(backbone(fuser.fuse(input, what a row holds of the output)))."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.core.clock import Clock
from accomp.core.diffusion.block_layout import BlockLayout
from accomp.core.diffusion.kinds import Regime
from accomp.core.interfaces import Backbone, Fuser, State
from accomp.core.model.accompanist import Accompanist, timeline_layer
from accomp.core.model.conditions import Conditions
from accomp.core.music.timelines import KINDS
from accomp.core.types import AttentionPattern, TokenSpace

FREQUENCIES = 128


class LatentModel(Accompanist):
    """Predicts the velocity of a block of noisy latents from input latents and the latents before (arXiv 2605.22717).

    A row holds input and, of the output, one of three things: clean latents (context), noisy ones with their noise
    level (what is denoised), or nothing (rows in front of the output). Clean rows know neither noise nor its level, so
    that what they become lasts.

    Attributes:
        labels: name -> the embedding of its classes; what is withheld has a class of its own, the first.
        absent: [E], input where none is given.
        blank: [1, De], output where there is none; empty for a clock that has no such rows.
    """

    def __init__(
        self,
        fuser: Fuser,
        backbone: Backbone,
        space: TokenSpace,
        clock: Clock,
        conditions: Conditions,
        width: int,
        regime: Regime = "block_causal",
    ):
        super().__init__()
        self.space, self.clock, self.conditions, self.regime = space, clock, conditions, regime
        self.fuser, self.backbone = fuser, backbone
        self._layout = BlockLayout(clock, regime)
        E, De = space.latent_dim, fuser.embed_width
        self.clean_in, self.noisy_in = nn.Linear(E, De), nn.Linear(E, De)
        self.level = NoiseLevel(De)
        self.out = nn.Linear(width, E)
        self.input_padding = nn.Parameter(torch.empty(self._layout.input_padding, E))
        self.absent = nn.Parameter(torch.empty(E))
        self.blank = nn.Parameter(torch.empty(min(1, self._layout.front), De))
        self.labels = nn.ModuleDict({name: nn.Embedding(n + 1, De) for name, n in self.classes.items()})
        self.timelines = nn.ModuleDict({name: timeline_layer(KINDS[name].width, De) for name in conditions.timelines})
        for weight in (self.input_padding, self.absent, self.blank, self.out.weight):
            nn.init.normal_(weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        for label in self.labels.values():
            nn.init.normal_(label.weight, std=0.02)  # type: ignore[arg-type]

    @property
    def layout(self) -> BlockLayout:
        """How it lays out its rows."""
        return self._layout

    def clean(self, y: Tensor) -> Tensor:
        """Latents y [B, S, E] -> what rows of context hold of the output [B, S, De]."""
        return self.clean_in(y)

    def noisy(self, y: Tensor, t: Tensor) -> Tensor:
        """Latents y [B, S, E] at noise levels t, [B, S] or what broadcasts to it -> [B, S, De]."""
        return self.noisy_in(y) + self.level(t)

    def silent(self, rows: int) -> Tensor:
        """What so many rows in front of the output hold of it [1, rows, De]."""
        blank = F.pad(self.blank, (0, 0, 0, 1 - len(self.blank)))  # zeros, where the clock has no such rows
        return blank[None].expand(1, rows, -1)

    def heard(self, x: Tensor) -> Tensor:
        """Input x [B, S, E], with `absent` in the frames that are withheld, which are all zeros."""
        return torch.where((x == 0).all(-1, keepdim=True), self.absent.to(x.dtype), x)

    def start(self, labels: Mapping[str, Tensor]) -> Tensor | None:
        """Labels (name -> classes [B], -1 withheld) -> what they add to every row [B, 1, De]; None without labels."""
        parts = [label(labels[name] + 1) for name, label in self.labels.items()]
        return torch.stack(parts).sum(0)[:, None] if parts else None

    def rows(
        self,
        x: Tensor,
        e: Tensor,
        start: Tensor | None = None,
        *,
        told: Tensor | None = None,
        state: State | None = None,
        sight: AttentionPattern | None = None,
    ) -> Tensor:
        """Rows of input x [B, S, E] and e [B or 1, S, De] of the output -> [B, S, D].

        start: of `start`; told: of `told`, [B, S, De]. With a state the rows follow those that it has absorbed, and see
        one another and its window; a sight says it otherwise.
        """
        e = (e if told is None else e + told).expand(len(x), -1, -1)
        h = self.fuser.fuse(self.heard(x), e, start)
        return self.backbone(h, causal=False, state=state, sight=sight)

    def velocity(self, h: Tensor) -> Tensor:
        """What the backbone made of noisy rows [B, S, D] -> velocities [B, S, E]."""
        return self.out(h)


class NoiseLevel(nn.Module):
    """t -> MLP([cos(2 pi w t), sin(2 pi w t)]), frequencies w learned."""

    def __init__(self, width: int):
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(FREQUENCIES))
        self.layers = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """t [...] -> [..., width]."""
        angle = 2 * math.pi * t[..., None].to(self.frequencies.dtype) * self.frequencies
        return self.layers(torch.cat([angle.cos(), angle.sin()], dim=-1))
