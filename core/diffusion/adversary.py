"""The discriminator of adversarial post-training: it compares real and generated latents of whole clips, with noise
added.
"""

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
    """Conditions of sequences of T frames: input x [B, T, E], labels, and timelines [B, T, N]."""

    x: Tensor
    labels: Mapping[str, Tensor]
    timelines: Mapping[str, Tensor]


class Adversary(nn.Module):
    """A copy of the model in which all rows are noisy and attend to all rows, beside the input of their frames, and a
    head.

    No clock hides any of the input. Parts of the copy that only clean rows use are not trained.
    """

    def __init__(self, model: LatentModel, channels: int = 128):
        """channels: of the head's first stage. The copy starts from the model's weights, the head at random."""
        super().__init__()
        self.model = copy.deepcopy(model)
        for unused in (*self.model.clean_in.parameters(), self.model.blank, self.model.input_padding):
            unused.requires_grad_(False)
        self.head = ConvNextHead(model.out.in_features, channels)

    def forward(self, conditioning: Conditioning, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy latents y [B, T, E] at levels t [B] -> scores [B, 1, T / 4], high for real latents; velocities of y."""
        model = self.model
        e, start = model.noisy(y, t[:, None]), model.start(conditioning.labels)
        h = model.rows(conditioning.x, e, start, timelines=model.timeline_embedding(conditioning.timelines))
        return self.head(h.mT), model.velocity(h)

    def scores(self, conditioning: Conditioning, y: Tensor, t: Tensor) -> Tensor:
        """Return the scores alone; the velocities are added times 0, so that every weight has a gradient."""
        scores, v = self(conditioning, y, t)
        return scores + 0.0 * v.mean()

    def set_trainable(self, enabled: bool) -> None:
        """Enable or disable gradients of the weights in use; those not in use never have any."""
        unused = {self.model.blank, self.model.input_padding, *self.model.clean_in.parameters()}
        for weight in set(self.parameters()) - unused:
            weight.requires_grad_(enabled)


def swap_inputs(conditioning: Conditioning) -> Conditioning:
    """Exchange the input for that of the next item of the batch."""
    return Conditioning(torch.roll(conditioning.x, -1, 0), conditioning.labels, conditioning.timelines)
