"""Untrained models of a spec on random input, for measurements of training and playing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from accomp.core.model.future_heads import give_heads
from accomp.core.model.guidance import Guidance
from accomp.core.music.timelines import KINDS
from accomp.core.registry import Registry
from accomp.core.runs.player import Player
from accomp.core.spec.build import build_model, build_objective, build_sampler, build_tokenizer
from accomp.core.spec.schema import Spec
from accomp.core.streaming.precision import prepared
from accomp.core.training.compile import compile_loss
from accomp.core.training.loss_module import LossModule
from accomp.core.training.optim import optimizer_of
from accomp.core.types import Batch, TokenSpace

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def training_step(spec: Spec, space: TokenSpace, registry: Registry, fabric: Fabric) -> Callable[[], None]:
    """Return a function that runs an optimizer step of an untrained model, on the fabric's device and in its precision.

    It draws from torch's global generators: keep it within own_randomness.
    """
    model = build_model(spec, space, registry).to(fabric.device)
    objective = build_objective(spec, space, registry)
    heads = give_heads(model, 0, objective)
    learners = LossModule(model, objective, objective, heads).to(fabric.device)
    compile_loss(objective, spec.train.compile, fabric.device)
    optimizer = optimizer_of(learners, spec.train, spec.run.precision)
    rng = torch.Generator().manual_seed(0)

    def step() -> None:
        for _ in range(spec.train.accumulate):
            batch = random_batch(spec, space, fabric.device)
            with fabric.autocast():
                total = objective.loss(model, batch, model.clock, rng).total
            total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def untrained_player(spec: Spec, registry: Registry, device: torch.device) -> Player:
    """Return the untrained model of a spec as a Player."""
    tokenizer = build_tokenizer(spec, registry).to(device)
    return Player(
        tokenizer=tokenizer,
        model=prepared(build_model(spec, tokenizer.space, registry).to(device).eval(), spec.runtime),
        sampler=build_sampler(spec, tokenizer.space, registry),
        window=spec.train.frames,
        step=0,
        weights="",
        objective=spec.objective.plugin,
        guidance=Guidance(spec.guidance),
        runtime=spec.runtime,
    )


def noise(space: TokenSpace, frames: int) -> np.ndarray:
    """Return random audio [N] of `frames` frames, well below full scale."""
    return (0.1 * np.random.default_rng(0).standard_normal(frames * space.hop)).astype(np.float32)


def random_batch(spec: Spec, space: TokenSpace, device: torch.device) -> Batch:
    """Return random latents and codes for the clips of one step of the spec."""
    clips, frames = spec.train.batch, spec.train.frames
    x = torch.randn(clips, frames, space.latent_dim, device=device)
    y = (
        torch.randn(clips, space.latent_dim, frames, device=device)
        if space.continuous
        else torch.randint(space.codebook_size, (clips, space.codebooks, frames), device=device)
    )
    labels = {name: torch.zeros(clips, dtype=torch.int64, device=device) for name in spec.conditions.labels}
    timelines = {
        name: torch.randn(clips, frames, KINDS[name].width, device=device) for name in spec.conditions.timelines
    }
    return Batch(x, y, torch.ones(clips, frames, dtype=torch.bool, device=device), labels, timelines)
