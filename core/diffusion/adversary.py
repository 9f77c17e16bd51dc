"""Who tells what was played from what a model of latents plays: all of both heard at once, with noise in it."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from attrs import frozen
from torch import Tensor, nn

from accomp.core.diffusion.convnext_head import ConvNextHead
from accomp.core.diffusion.latent_model import LatentModel


@frozen(eq=False)
class Conditioning:
    """What sequences of T frames were played to: input x [B, T, E], labels, and timelines [B, T, N]."""

    x: Tensor
    labels: Mapping[str, Tensor]
    timelines: Mapping[str, Tensor]


class Adversary(nn.Module):
    """A model's copy in which all rows are noisy and see all rows, beside the input of their own frames; a head scores.

    Nothing of the input is hidden from it by a clock. Parts of the copy that clean rows alone use do not learn.
    """

    def __init__(self, model: LatentModel, channels: int = 128):
        """channels: of the head's first stage. The copy begins with the model's weights, the head at random."""
        super().__init__()
        self.model = copy.deepcopy(model)
        for unused in (*self.model.clean_in.parameters(), self.model.blank, self.model.input_padding):
            unused.requires_grad_(False)
        self.head = ConvNextHead(model.out.in_features, channels)

    def forward(self, heard: Conditioning, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy latents y [B, T, E] at levels t [B] -> scores [B, 1, T / 4], high for what is real; velocities of y."""
        model = self.model
        e, start = model.noisy(y, t[:, None]), model.start(heard.labels)
        h = model.rows(heard.x, e, start, told=model.timeline_embedding(heard.timelines))
        return self.head(h.mT), model.velocity(h)

    def scores(self, heard: Conditioning, y: Tensor, t: Tensor) -> Tensor:
        """The scores alone; what makes velocities is part of the sum, times 0, so that every weight has a gradient."""
        scores, v = self(heard, y, t)
        return scores + 0.0 * v.mean()

    def learning(self, wanted: bool) -> None:
        """Whether its weights want gradients; those that are not used never do."""
        unused = {self.model.blank, self.model.input_padding, *self.model.clean_in.parameters()}
        for weight in set(self.parameters()) - unused:
            weight.requires_grad_(wanted)


def swapped(heard: Conditioning) -> Conditioning:
    """The same with the input of the next item of the batch."""
    return Conditioning(torch.roll(heard.x, -1, 0), heard.labels, heard.timelines)
