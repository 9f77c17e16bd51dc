"""Batches of training: the clips of a split, and the tensors of an objective on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from accomp.core.compute.devices import number_of
from accomp.core.data.loader import ClipLoader
from accomp.core.interfaces import Tokenizer
from accomp.core.spec.schema import Spec
from accomp.core.types import Batch, CodeBatch


def clip_loader(
    spec: Spec, split: str, tokenizer: Tokenizer, *, rank: int = 0, world: int = 1, pin: bool = False
) -> ClipLoader:
    """Open the loader of a split with the settings of a spec, for one of `world` processes."""
    return ClipLoader(
        spec.store.path,
        split,
        tokenizer,
        frames=spec.train.frames,
        batch=spec.train.batch,
        seed=number_of(spec.seed, "clips", split) % 2**32,
        rules=spec.pairs,
        labels=spec.conditions.labels,
        timelines=spec.conditions.timelines,
        rank=rank,
        world=world,
        pin=pin,
    )


def prepare_batch(batch: CodeBatch, tokenizer: Tokenizer, device: torch.device, dtype: torch.dtype) -> Batch:
    """Embed the context codes and move all tensors to the device, floating-point ones in the model's `dtype`."""

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    with torch.no_grad():
        x = tokenizer.embed(moved(batch.context)).clone().to(dtype)
    labels = {name: moved(classes) for name, classes in batch.labels.items()}
    timelines = {name: moved(values) for name, values in batch.timelines.items()}
    y = moved(batch.target)
    return Batch(x, y.to(dtype) if y.is_floating_point() else y, moved(batch.valid), labels, timelines)
