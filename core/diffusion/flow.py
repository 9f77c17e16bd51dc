"""The flow matching loss, common to all objectives of latents."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.diffusion.block_layout import Blocks
from accomp.core.diffusion.latent_model import LatentModel
from accomp.core.diffusion.process import marginal_loss, noised, velocity
from accomp.core.diffusion.timesteps import DISTRIBUTIONS, Name, shifted, stratified
from accomp.core.errors import CombinationError
from accomp.core.model.chunks import draw_starts
from accomp.core.model.model import withhold
from accomp.core.tensors import in_full
from accomp.core.types import Batch, Loss, TokenSpace

QUARTERS = 4
_share = v.and_(v.ge(0.0), v.le(1.0))


def _some(_: Any, attribute: attrs.Attribute, count: int | str) -> None:
    if count != "all" and not (isinstance(count, int) and count >= 1):
        raise ValueError(f"{attribute.name} must be at least 1 block, or 'all'; got {count!r}")


@frozen
class ContextDrop:
    """Shares of training clips in which the model's own past is withheld, so that it learns to start.

    Attributes:
        whole: all of it is withheld.
        oldest: the oldest blocks, one to all of them, are withheld; share of the other clips.
    """

    whole: float = field(default=0.1, validator=_share)
    oldest: float = field(default=0.2, validator=_share)


@frozen
class FlowKeys:
    """Config fields of the flow loss.

    Attributes:
        blocks: number of blocks of each clip that are denoised in a forward, or "all".
        timesteps: the distribution of noise levels (core/diffusion/timesteps.py).
        shift: towards more noise, by the length of the clip.
        context_drop: shares of clips in which the model's own past is withheld.
        input_drop: share of training clips whose input is missing up to a random frame; [conditions] context.drop
            is the share without any input.
    """

    blocks: int | Literal["all"] = field(default=4, validator=_some)
    timesteps: Name = "uniform"
    shift: bool = True
    context_drop: ContextDrop = ContextDrop()
    input_drop: float = field(default=0.0, validator=_share)


class Flow:
    """Mean of (v - (eps - x_0))^2 over the valid frames of blocks of k frames, x_t = (1 - t) x_0 + t eps.

    arXiv 2605.22717 with the clock of this package: input is shifted so that no row changes once it is computed.
    "block_causal": each clip draws its own blocks, without replacement, and one forward of at most twice its length
    denoises them all, each after the context of a stream. "enc_dec": the clip's last block is denoised as many times,
    at different noise levels. Every block has one noise level; those of a batch are stratified. Frames that are not
    valid are neither predicted nor attended to. Outside training all blocks are denoised, and nothing is dropped.
    """

    def __init__(self, config: FlowKeys):
        self.config = config

    def loss(self, model: LatentModel, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Squared error a number; the parts `t_0`..`t_3` are that of the quarters of noise levels, 0 for an empty one.

        Raises ValueError for a clip in which no block fits.
        """
        assert clock is not None, "build refuses this objective without a clock"
        batch = withhold(batch, model.conditions, rng)
        layout, frames = model.layout, batch.y.shape[2]
        count = layout.blocks(frames)
        if not count:
            raise ValueError(f"no block fits in a clip of {frames} frames at {clock}; take longer clips")
        device, items = batch.y.device, len(batch.y)
        if model.training:
            batch = attrs.evolve(batch, x=self._late(batch.x, rng))
        chosen = self._chosen(model, items, count, rng)
        t = self._levels(stratified(tuple(chosen.shape), rng), frames)
        noise = torch.randn(items, chosen.shape[1] * clock.k, model.space.latent_dim, generator=rng)
        forgotten = self._forgotten(items, layout.front + count, rng) if model.training else torch.zeros(items).long()

        def to_device(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return self.loss_of(
            model,
            batch,
            to_device(chosen),
            to_device(t.float()),
            to_device(noise).to(batch.y.dtype),
            to_device(forgotten),
        )

    def loss_of(
        self, model: LatentModel, batch: Batch, chosen: Tensor, t: Tensor, noise: Tensor, forgotten: Tensor
    ) -> Loss:
        """Compute the loss of given blocks, with every condition of the batch.

        chosen [B, m] int64: numbers of the blocks; t [B, m]: noise levels; noise [B, m k, E]; forgotten [B] int64:
        number of oldest blocks, those in front included, that are not attended to.
        """
        layout, k = model.layout, model.layout.clock.k
        lines = layout.front + layout.blocks(batch.y.shape[2])
        y = layout.outputs(batch.y.mT)
        valid = layout.outputs(batch.valid[..., None].to(y))[..., 0] > 0
        seen = valid | (torch.arange(lines * k, device=y.device) < layout.start)
        blocks = Blocks(layout, chosen, lines, lines, forgotten, seen)
        x = layout.inputs(batch.x, model.input_padding)
        rows_e = model.timeline_embedding({name: layout.outputs(values) for name, values in batch.timelines.items()})
        target, level = blocks.at(y), t.repeat_interleave(k, dim=1)
        front = model.silent(layout.start).expand(len(y), -1, -1)
        clean = torch.cat([front, model.clean(y[:, layout.start :])], dim=1)
        noisy = model.noisy(noised(target, noise, level[..., None]), level)
        h = model.rows(
            torch.cat([x, blocks.at(x)], dim=1),
            torch.cat([clean.to(noisy), noisy], dim=1),
            model.start(batch.labels),
            timelines=None if rows_e is None else torch.cat([rows_e, blocks.at(rows_e)], dim=1),
            sight=blocks.sight(),
        )
        v = model.velocity(h[:, lines * k :])
        error = (in_full(v) - velocity(target, noise)).square().mean(-1)
        return _loss(error, valid.gather(1, blocks.noisy), level)

    def line(self, variance: Tensor) -> dict[str, Any]:
        """`loss` and `parts` of the best estimate from the mean and `variance` [E] of latents alone.

        A baseline for the loss, over the noise levels that are trained; shift is that of short clips.
        """
        u = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
        t = self._levels(u, 0)
        loss = marginal_loss(variance.double(), t[:, None]).mean(1)
        quarter = (t * QUARTERS).long().clamp(max=QUARTERS - 1)
        parts = {f"t_{q}": float(loss[quarter == q].mean()) for q in range(QUARTERS) if bool((quarter == q).any())}
        return {"loss": float(loss.mean()), "parts": parts}

    def _chosen(self, model: LatentModel, items: int, count: int, rng: torch.Generator) -> Tensor:
        """Draw the numbers of the blocks to denoise [B, m]."""
        per_clip = self.config.blocks
        if model.regime == "enc_dec":
            return torch.full((items, 1 if per_clip == "all" else per_clip), count - 1)
        return draw_starts(range(count), items, per_clip if model.training and per_clip != "all" else None, rng)

    def _levels(self, u: Tensor, frames: int) -> Tensor:
        """Numbers in (0, 1) -> noise levels, for clips of `frames` frames."""
        t = DISTRIBUTIONS[self.config.timesteps](u)
        return shifted(t, frames) if self.config.shift else t

    def _forgotten(self, items: int, blocks: int, rng: torch.Generator) -> Tensor:
        """Draw the number of oldest blocks of each clip that are masked [B]."""
        drop = self.config.context_drop
        whole = torch.rand(items, generator=rng) < drop.whole
        oldest = torch.rand(items, generator=rng) < drop.oldest
        some = torch.randint(1, blocks + 1, (items,), generator=rng)
        return torch.where(whole, blocks, torch.where(oldest, some, 0))

    def _late(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Zero input x [B, T, E] up to a random frame in a share of the clips."""
        late = torch.rand(len(x), generator=rng) < self.config.input_drop
        since = torch.where(late, torch.randint(0, x.shape[1] + 1, (len(x),), generator=rng), 0).to(x.device)
        early = torch.arange(x.shape[1], device=x.device) < since[:, None]
        return x.masked_fill(early[..., None], 0.0)


def check_trained_space(name: str, space: TokenSpace) -> None:
    """Raise CombinationError for a tokenizer without latents."""
    if not space.continuous:
        raise CombinationError(
            f"objective {name!r} trains models of continuous latents, the tokenizer has {space.codebooks} "
            f"codebooks of codes; choose a tokenizer of latents (continuous = 32) or an objective of codes"
        )


def _loss(error: Tensor, valid: Tensor, level: Tensor) -> Loss:
    """The mean of error [B, S] where `valid` [B, S], and its parts by quarters of the levels [B, S]."""
    quarter = (level * QUARTERS).long().clamp(max=QUARTERS - 1)
    of = valid & (quarter[None] == torch.arange(QUARTERS, device=level.device)[:, None, None])
    sums, counts = (error * of).sum((1, 2)), of.sum((1, 2))
    parts = {f"t_{q}": mean for q, mean in enumerate(sums.detach() / counts.clamp(min=1))}
    return Loss(sums.sum() / counts.sum().clamp(min=1), parts, counts)
