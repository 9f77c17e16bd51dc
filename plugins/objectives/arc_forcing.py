"""ARC-forcing: adversarial training of a latent model on its own rollouts, for sampling in few steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import attrs
import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.plugin import Batch, Clock, Decoding, Loss, TokenSpace
from accomp.plugin.diffusion import (
    DISTRIBUTIONS,
    Adversary,
    Blocks,
    Conditioning,
    Flow,
    FlowKeys,
    LatentModel,
    Name,
    Velocity,
    adversary_loss,
    check_trained_space,
    contrastive_loss,
    generator_loss,
    levels,
    noised,
    roll_out,
    stratified,
    swap_inputs,
    velocity,
)
from accomp.plugin.sequences import withhold

Turn = Literal["generator", "adversary", "settling"]


class ArcForcing:
    """Adversarial relativistic contrastive training (arXiv 2505.08175) on rollouts of the model (arXiv 2605.22717).

    The model generates the first blocks of a clip from its input alone, each by k ping-pong steps. Only the last step
    has a gradient; past blocks are detached. Generator and adversary are updated in alternate steps. The adversary
    scores real and generated clips, both with the same noise at the same level, and discriminates the true input from
    that of another clip. It starts as a copy of the model and is first trained, alone, to denoise whole clips. Start
    from a model trained with rectified_flow: [train] start.

    Validation uses the loss of rectified_flow, which ARC-forcing increases; so the newest checkpoint is used.
    """

    decoding: ClassVar[Decoding] = "denoised"
    chunked: ClassVar[bool] = True
    clocked: ClassVar[bool] = True
    unit: ClassVar[str] = "squared error"
    judged_by: ClassVar[str] = "newest"

    @frozen
    class Config:
        """Rollouts, noise levels and the adversary.

        Attributes:
            blocks: blocks per rollout.
            steps: N, the number of noise levels; a block uses the first k, k ~ U{least..N}, equal in all processes.
            least: smallest k.
            contrast: weight of the contrastive loss, true input against the input of another clip.
            timesteps: distribution of the noise levels of the adversary.
            settle: initial steps that train only the adversary, with the flow loss.
            adversary_lr: learning rate of the adversary; follows the schedule of [train] lr.
            channels: channels of the first stage of the adversary's head.
        """

        blocks: int = field(default=4, validator=v.ge(1))
        steps: int = field(default=6, validator=v.ge(1))
        least: int = field(default=1, validator=v.ge(1))
        contrast: float = field(default=1.0, validator=v.ge(0.0))
        timesteps: Name = "trunc_logit_normal"
        settle: int = field(default=0, validator=v.ge(0))
        adversary_lr: float = field(default=1e-4, validator=v.gt(0.0))
        channels: int = field(default=128, validator=v.ge(1))

        @least.validator
        def _no_more_than_steps(self, attribute: attrs.Attribute, least: int) -> None:
            if least > self.steps:
                raise ValueError(f"{attribute.name} is {least}; expected at most steps = {self.steps}")

    def __init__(self, config: Config, space: TokenSpace):
        """Raises CombinationError for a space of codes."""
        check_trained_space("arc_forcing", space)
        self.config, self.adversary_lr = config, config.adversary_lr
        self._flow, self._levels = Flow(FlowKeys()), levels(config.steps)

    def loss(self, model: LatentModel, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Loss:
        """Compute the flow loss, comparable to that of the starting model in validation."""
        return self._flow.loss(model, batch, clock, rng)

    def line(self, variance: Tensor) -> dict[str, object]:
        """See Flow.line."""
        return self._flow.line(variance)

    def adversary(self, model: LatentModel) -> Adversary:
        """Build the adversary with its initial weights."""
        return Adversary(model, self.config.channels)

    def turn(self, step: int) -> Turn:
        """Return the side that optimizer step `step` (from 0) updates; "settling" trains only the adversary."""
        if step < self.config.settle:
            return "settling"
        return "adversary" if (step - self.config.settle) % 2 else "generator"

    def turn_loss(
        self,
        turn: Turn,
        model: LatentModel,
        adversary: Adversary,
        batch: Batch,
        rng: torch.Generator,
        shared: torch.Generator,
    ) -> Loss:
        """Compute the loss of a turn; disable gradients of the other side's weights before the call.

        rng: random numbers of this process; shared: those common to all processes (steps per block).
        Parts: "generator", or "adversary" and "contrast", or "flow" while settling.
        """
        batch = withhold(batch, model.conditions, rng)
        frames = self.frames(model, batch.y.shape[2])
        real, heard = batch.y.mT[:, :frames] * batch.valid[:, :frames, None], _heard(batch, frames)
        device, dtype = batch.y.device, batch.y.dtype
        t = DISTRIBUTIONS[self.config.timesteps](stratified((len(real),), rng)).to(device, dtype)
        noise = torch.randn(real.shape, generator=rng).to(device, dtype)
        if turn == "settling":
            _, predicted = adversary(heard, noised(real, noise, t[:, None, None]), t)
            total = (predicted - velocity(real, noise)).square().mean() + 0.0 * _scored(adversary, heard, real, t)
            return Loss(total, {"flow": total.detach()})
        with torch.set_grad_enabled(turn == "generator"):
            fake = self.rolled(model, batch, frames, rng, shared) * batch.valid[:, :frames, None]

        def scores(y: Tensor, to: Conditioning = heard) -> Tensor:
            return adversary.scores(to, noised(y, noise, t[:, None, None]), t)

        if turn == "generator":
            with torch.no_grad():
                above = scores(real)
            total = generator_loss(above, scores(fake))
            return Loss(total, {"generator": total.detach()})
        own = scores(real)
        told, heeded = adversary_loss(own, scores(fake)), contrastive_loss(own, scores(real, swap_inputs(heard)))
        return Loss(told + self.config.contrast * heeded, {"adversary": told.detach(), "contrast": heeded.detach()})

    def frames(self, model: LatentModel, clip: int) -> int:
        """Return the number of frames of a rollout. Raises ValueError for a clip too short for it."""
        count, k = model.layout.blocks(clip), model.layout.clock.k
        if count < self.config.blocks:
            raise ValueError(
                f"a rollout of objective.blocks = {self.config.blocks} blocks of k = {k} frames does not fit in a clip "
                f"of {clip} frames, which has {count}; lengthen train.frames or take fewer"
            )
        return self.config.blocks * k

    def rolled(
        self, model: LatentModel, batch: Batch, frames: int, rng: torch.Generator, shared: torch.Generator
    ) -> Tensor:
        """Generate latents for a batch from its input alone [B, frames, E]."""
        k, config = model.layout.clock.k, self.config
        blocks = frames // k
        shape = (blocks, config.steps, len(batch.y), model.space.latent_dim, k)
        noise = torch.randn(shape, generator=rng).to(batch.y)
        counts = torch.randint(config.least, config.steps + 1, (blocks,), generator=shared).tolist()
        return _rollout(model, batch, noise, counts, self._levels).mT


def _rollout(
    model: LatentModel, batch: Batch, noise: Tensor, counts: Sequence[int], noise_levels: Sequence[float]
) -> Tensor:
    """noise [blocks, N, B, E, k] -> [B, E, blocks k]."""
    layout, k = model.layout, model.layout.clock.k
    x = layout.inputs(batch.x, model.input_padding)
    told = model.timeline_embedding({name: layout.outputs(values) for name, values in batch.timelines.items()})
    start = model.start(batch.labels)

    def begin(number: int, past: Tensor | None) -> Velocity:
        rows = layout.start + (number + 1) * k
        y = x.new_zeros(len(x), rows - layout.start, x.shape[2])
        if past is not None:
            y = torch.cat([past.mT, y[:, past.shape[2] :]], dim=1)
        front = model.silent(layout.start).expand(len(y), -1, -1)
        lines, chosen = rows // k, torch.full((len(y), 1), number, device=x.device)
        everything = torch.ones(len(y), rows, dtype=torch.bool, device=x.device)
        blocks = Blocks(layout, chosen, lines, lines, torch.zeros_like(chosen[:, 0]), everything)
        heard = torch.cat([x[:, :rows], blocks.at(x[:, :rows])], dim=1)
        said = None if told is None else torch.cat([told[:, :rows], blocks.at(told[:, :rows])], dim=1)

        def predict(noisy: Tensor, t: float) -> Tensor:
            level = noisy.new_full((1, 1), t)
            e = torch.cat([front, model.clean(y), model.noisy(noisy.mT, level)], dim=1)
            h = model.rows(heard, e, start, timelines=said, sight=blocks.sight())
            return model.velocity(h[:, rows:]).mT

        return predict

    return roll_out(begin, lambda block: lambda step: noise[block][step], noise_levels, counts)


def _heard(batch: Batch, frames: int) -> Conditioning:
    return Conditioning(
        batch.x[:, :frames], batch.labels, {name: told[:, :frames] for name, told in batch.timelines.items()}
    )


def _scored(adversary: Adversary, heard: Conditioning, y: Tensor, t: Tensor) -> Tensor:
    """Return a score so that every weight of the head has a gradient in every turn."""
    scores: Tensor = adversary(heard, y, t)[0]
    return scores.mean()
