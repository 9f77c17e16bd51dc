"""Noise, flow and rollout, for objectives and samplers of models that play latents."""

from __future__ import annotations

from accomp.core.diffusion.adversary import Adversary, Conditioning, swap_inputs
from accomp.core.diffusion.adversary_losses import adversary_loss, contrastive_loss, generator_loss
from accomp.core.diffusion.block_layout import Blocks
from accomp.core.diffusion.denoising import GuidedSteps, Path, Steps, check_sampled_space, levels, log_ratio
from accomp.core.diffusion.flow import Flow, FlowKeys, check_trained_space
from accomp.core.diffusion.latent_model import LatentModel
from accomp.core.diffusion.process import clean_of, noised, velocity
from accomp.core.diffusion.rollout import Velocity, roll_out
from accomp.core.diffusion.timesteps import DISTRIBUTIONS, Name, stratified

__all__ = [
    "DISTRIBUTIONS",
    "Adversary",
    "Blocks",
    "Conditioning",
    "Flow",
    "FlowKeys",
    "GuidedSteps",
    "LatentModel",
    "Name",
    "Path",
    "Steps",
    "Velocity",
    "adversary_loss",
    "check_sampled_space",
    "check_trained_space",
    "clean_of",
    "contrastive_loss",
    "generator_loss",
    "levels",
    "log_ratio",
    "noised",
    "roll_out",
    "stratified",
    "swap_inputs",
    "velocity",
]
