"""Optimizer and schedule: AdamW, and a learning rate with linear warm-up and cosine decay."""

from __future__ import annotations

import math

import torch
from torch import nn

from accomp.core.spec.sections import TrainSpec


def learning_rate(step: int, train: TrainSpec, spent: float = 0.0) -> float:
    """Return the rate of optimizer step `step`, counted from 0. `spent`: the elapsed share of [train] minutes.

    lr (step + 1) / warmup, then final_lr + (lr - final_lr) (1 + cos(pi p)) / 2 with p from 0 after the warm-up to 1 at
    the last step; p is the elapsed share of the time or of the steps, whichever is greater.
    """
    if step < train.warmup:
        return train.lr * (step + 1) / train.warmup
    progress = min(1.0, max(spent, (step - train.warmup) / max(1, train.steps - 1 - train.warmup)))
    return train.final_lr + (train.lr - train.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def optimizer_of(model: nn.Module, train: TrainSpec, precision: str = "32-true") -> torch.optim.AdamW:
    """Create AdamW over the trainable parameters; weight decay applies to matrices, not to gains, biases and norms.

    The update is one fused kernel, except at precision "16-mixed", where gradients are unscaled and clipped before. An
    empty parameter keeps its place, trainable or not, so that all checkpoints have the same order.
    """
    parameters = [p for p in model.parameters() if p.requires_grad or not p.numel()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.lr, fused=precision != "16-mixed")
