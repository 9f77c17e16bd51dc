"""How long a training step and a second of playing take on this machine, for each shape of model in a grid."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from accomp.core.build import build_model, build_objective, build_sampler, build_tokenizer
from accomp.core.console import progress
from accomp.core.files import write_atomic
from accomp.core.guidance import Guidance
from accomp.core.model import Model
from accomp.core.registry import Registry
from accomp.core.runner.compiling import compile_loss
from accomp.core.runner.computing import PLAYING_THREADS, describe, fabric_of, own_randomness, threads
from accomp.core.runner.grid.costs import CALIBRATION, playing_shape, training_shape
from accomp.core.runner.grid.work import GridWork
from accomp.core.runner.latency import part_times
from accomp.core.runner.optimising import optimizer_of
from accomp.core.runner.playing import Player, perform, play
from accomp.core.spec import Spec
from accomp.core.types import Batch, TokenSpace

STEPS = 3
"""Of training that are timed, after one that is not."""
SECONDS = 2.0
"""Of noise that is played to."""


def calibrate(work: GridWork, registry: Registry) -> None:
    """Time each shape of training and playing once, and write calibration.json into the grid's folder."""
    specs = [one.cell.spec for one in work.cells]
    training = {training_shape(spec): spec for spec in reversed(specs)}
    playing = {playing_shape(spec): spec for spec in reversed(specs)}
    found: dict[str, Any] = {"steps": {}, "playing": {}, "parts": {}, "device": ""}
    count = work.grid.runner.cpus
    with progress("calibrate", len(training) + len(playing)) as advance:
        for shape, spec in training.items():
            with threads(spec.run.threads or count):
                found["steps"][shape], found["device"] = _training(spec, registry)
            advance(1, note="a training step")
        for shape, spec in playing.items():
            with threads(spec.run.threads or PLAYING_THREADS):
                found["playing"][shape], parts = _playing(spec, registry)
            if parts is not None:
                found["parts"][shape] = [parts]
            advance(1, note="playing")
    write_atomic(work.grid.folder / CALIBRATION, json.dumps(found, indent=1) + "\n")


def _training(spec: Spec, registry: Registry) -> tuple[float, str]:
    """Median seconds of an optimizer step on random codes, and the device."""
    fabric = fabric_of(spec.run)
    tokenizer = build_tokenizer(spec, registry)
    model = build_model(spec, tokenizer.space, registry).to(fabric.device)
    objective = build_objective(spec, tokenizer.space, registry)
    compile_loss(objective, spec.train.compile, fabric.device)
    optimizer = optimizer_of(model, spec.train, spec.run.precision)
    rng = torch.Generator().manual_seed(0)

    def step() -> None:
        for _ in range(spec.train.accumulate):
            batch = random_batch(spec, tokenizer.space, fabric.device)
            with fabric.autocast():
                total = objective.loss(model, batch, model.clock, rng).total
            total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with own_randomness(fabric.device):
        return _timed(step, fabric.device), describe(fabric.device)


def random_batch(spec: Spec, space: TokenSpace, device: torch.device) -> Batch:
    """As many clips of random latents and codes as a step of the spec takes at a time."""
    clips, frames = spec.train.batch, spec.train.frames
    x = torch.randn(clips, frames, space.latent_dim, device=device)
    y = torch.randint(space.codebook_size, (clips, space.codebooks, frames), device=device)
    labels = {name: torch.zeros(clips, dtype=torch.int64, device=device) for name in spec.conditions.labels}
    return Batch(x, y, torch.ones(clips, frames, dtype=torch.bool, device=device), labels)


def _playing(spec: Spec, registry: Registry) -> tuple[float, dict[str, float] | None]:
    """Seconds for a second of takes, and of a model that streams what the latency budget wants."""
    fabric = fabric_of(spec.run)
    tokenizer = build_tokenizer(spec, registry).to(fabric.device)
    model: Model = build_model(spec, tokenizer.space, registry).to(fabric.device).eval()
    sampler = build_sampler(spec, tokenizer.space, registry)
    guidance = Guidance(spec.guidance)
    player = Player(tokenizer, model, sampler, spec.train.frames, 0, "", spec.objective.plugin, guidance)
    rate, hop = tokenizer.space.sample_rate, tokenizer.space.hop
    sound = (0.1 * np.random.default_rng(0).standard_normal(round(SECONDS * rate))).astype(np.float32)
    how: Any = {"labels": {}, "seed": 0, "session": 0}
    perform(player, sound[: rate // 2], **how)  # what happens the first time only
    if model.clock is None:
        played = perform(player, sound, **how)
        return sum(played.whole) / SECONDS, None
    played = play(player, sound, [hop] * (len(sound) // hop), **how)
    return 2 * sum(played.whole) / SECONDS, part_times(played, model.clock)


def _timed(work: Callable[[], None], device: torch.device) -> float:
    times = []
    for _ in range(STEPS + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])
