"""The model of continuous latents: velocities = out(backbone(fuser.fuse(input, embedded output)))."""

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
    """Predict the velocity of a block of noisy latents from input and previous latents (arXiv 2605.22717).

    A row has input and, as output, one of three things: clean latents (context), noisy ones with their noise level (to
    be denoised), or none (rows in front of the output). Clean rows depend on neither noise nor its level, so that their
    keys and values can be cached.

    Attributes:
        labels: name -> the embedding of its classes; class 0 there stands for a withheld label.
        absent: [E], input where none is given.
        blank: [1, De], output where there is none; empty for a clock without such rows.
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
        self.ear = None
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
        """The layout of the rows."""
        return self._layout

    def clean(self, y: Tensor) -> Tensor:
        """Embed latents y [B, S, E] as context rows [B, S, De]."""
        return self.clean_in(y)

    def noisy(self, y: Tensor, t: Tensor) -> Tensor:
        """Embed latents y [B, S, E] at noise levels t, [B, S] or broadcastable -> [B, S, De]."""
        return self.noisy_in(y) + self.level(t)

    def silent(self, rows: int) -> Tensor:
        """Embed `rows` rows in front of the output [1, rows, De]."""
        blank = F.pad(self.blank, (0, 0, 0, 1 - len(self.blank)))  # zeros, where the clock has no such rows
        return blank[None].expand(1, rows, -1)

    def fill_absent(self, x: Tensor) -> Tensor:
        """Replace frames of input x [B, S, E] that are all zeros, as withheld, by `absent`."""
        return torch.where((x == 0).all(-1, keepdim=True), self.absent.to(x.dtype), x)

    def start(self, labels: Mapping[str, Tensor]) -> Tensor | None:
        """Labels (name -> classes [B], -1 withheld) -> an addend of every row [B, 1, De]; None without labels."""
        parts = [label(labels[name] + 1) for name, label in self.labels.items()]
        return torch.stack(parts).sum(0)[:, None] if parts else None

    def rows(
        self,
        x: Tensor,
        e: Tensor,
        start: Tensor | None = None,
        *,
        timelines: Tensor | None = None,
        state: State | None = None,
        sight: AttentionPattern | None = None,
    ) -> Tensor:
        """Compute rows of input x [B, S, E] and embedded output e [B or 1, S, De] -> [B, S, D].

        start: from `start`; timelines: from `timeline_embedding`, [B, S, De]. With a state the rows follow those
        absorbed before, and attend to one another and its window, unless `sight` gives another mask.
        """
        e = (e if timelines is None else e + timelines).expand(len(x), -1, -1)
        h = self.fuser.fuse(self.fill_absent(x), e, start)
        return self.backbone(h, causal=False, state=state, sight=sight)

    def velocity(self, h: Tensor) -> Tensor:
        """Project the backbone's output for noisy rows [B, S, D] to velocities [B, S, E]."""
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
