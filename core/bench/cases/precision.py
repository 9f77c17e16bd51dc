"""`accomp bench precision`: increase of a trained model's held-out loss at a lower precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from accomp.core.bench import memory
from accomp.core.bench.live import MB
from accomp.core.bench.records.record import BenchRow
from accomp.core.compute.devices import PLAYING_THREADS, device_of, threads
from accomp.core.data.loader import ClipLoader
from accomp.core.errors import CombinationError
from accomp.core.model.model import Model
from accomp.core.model.tokens import PADDING
from accomp.core.registry import Registry
from accomp.core.runs.checkpoint import TrainedModel, load_run
from accomp.core.runs.folder import model_folder
from accomp.core.runs.player import playing_checkpoint
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming.precision import prepared
from accomp.core.types import CodeBatch

RUNTIMES = {
    "float32": Runtime(),
    "bfloat16 cache": Runtime(cache="bfloat16"),
    "int8 cache": Runtime(cache="int8"),
    "int8": Runtime(weights="int8"),
    "int8, int8 cache": Runtime(weights="int8", cache="int8"),
    "w8a8": Runtime(weights="w8a8"),
    "w8a8, bfloat16 cache": Runtime(weights="w8a8", cache="bfloat16"),
    "bfloat16": Runtime(weights="bfloat16"),
    "bfloat16, int8 cache": Runtime(weights="bfloat16", cache="int8"),
}
"""Runtimes by name; the first is the baseline. Those that the device does not support are left out."""


def precision(run: Path, registry: Registry, *, batches: int, device: str | None = None) -> list[BenchRow]:
    """Yield a row a precision: the loss (nats a token) on clips of the run's validation songs, and its increase.

    Every clip is teacher-forced through the state of a session, so that the precision of the cache has an effect as
    well. Raises CombinationError for a model without a clock or with k > 1, whose training differs from that, and the
    errors of loading a run and its store.
    """
    step, run = playing_checkpoint(run).step, model_folder(run)
    found = load_run(run, registry, device_of(device or "auto"), step=step)
    if found.model.clock is None or found.model.clock.k > 1 or found.model.space.continuous:
        raise CombinationError(
            f"the loss of a precision is that of a model of codes that plays frame by frame, k = 1 @ {run}"
        )
    with threads(found.spec.run.threads or PLAYING_THREADS), torch.inference_mode():
        return list(_lines(found, run, list(_clips(found, batches))))


def _lines(found: TrainedModel, run: Path, clips: list[CodeBatch]) -> Iterator[BenchRow]:
    exact = None
    suited = {name: one for name, one in RUNTIMES.items() if one.suits(found.model.table.weight.device)}
    for name, runtime in suited.items():
        model = prepared(found.model, runtime)
        sums = [_loss(model, runtime, found, batch) for batch in clips]
        tokens = sum(count for _, count in sums)
        loss = sum(nats for nats, _ in sums) / tokens
        exact = loss if exact is None else exact
        weights = memory.bytes_of([*model.parameters(), *model.buffers()])
        figures = {"loss": loss, "loss_more": loss - exact, "tokens": float(tokens), "weights_mb": weights / MB}
        yield BenchRow("precision", str(run), (), model.table.weight.device.type, name, figures)


def _loss(model: Model, runtime: Runtime, found: TrainedModel, batch: CodeBatch) -> tuple[float, int]:
    """Return the sum of nats over the tokens of some clips, and their number."""
    layout, device = model.layout, model.table.weight.device
    x = found.tokenizer.embed(batch.context.to(device)).to(model.table.weight.dtype)
    y: Tensor = batch.target.to(device).masked_fill(~batch.valid.to(device)[:, None], PADDING)
    rows = layout.inputs(x, model.input_padding)
    pinned = range(layout.start, layout.start + 1)
    state = model.backbone.new_state(
        len(x), found.spec.train.frames, chunk=rows.shape[1], pinned=pinned, dtype=runtime.cache_type
    )
    start = model.start({name: classes.to(device) for name, classes in batch.labels.items()})
    loss = model.cross_entropy(model.step(rows, layout.inputs_of(y), start, state), layout.targets_of(y))
    assert loss.counts is not None, "cross_entropy counts"
    tokens = int(loss.counts.sum())
    return float(loss.total) * tokens, tokens


def _clips(found: TrainedModel, batches: int) -> Iterator[CodeBatch]:
    spec = found.spec
    loader = ClipLoader(
        spec.store.path, "validation", found.tokenizer, frames=spec.train.frames, batch=spec.train.batch, seed=0,
        rules=spec.pairs, labels=spec.conditions.labels,
    )  # fmt: skip
    return loader.fixed(batches)
