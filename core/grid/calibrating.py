"""Measurement of a training step and a second of playing on this machine, for each shape of model in a grid."""

from __future__ import annotations

import json
import statistics
from typing import Any

from accomp.core.bench.timing import timed
from accomp.core.compute.devices import PLAYING_THREADS, describe, own_randomness, threads
from accomp.core.console import progress
from accomp.core.files import write_atomic
from accomp.core.generation.latency import part_times
from accomp.core.grid.costs import CALIBRATION, playing_shape, training_shape
from accomp.core.grid.work import GridWork
from accomp.core.registry import Registry
from accomp.core.runs.run import perform, play
from accomp.core.spec.build import space_of
from accomp.core.spec.schema import Spec
from accomp.core.training.fabric import fabric_of
from accomp.core.training.random_init import noise, training_step, untrained_player

STEPS = 3
"""Training steps that are timed, after one of warm-up."""
SECONDS = 2.0
"""Length of the noise that is played to."""


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
    """Return the median seconds of an optimizer step on random codes, and the device."""
    fabric = fabric_of(spec.run)
    with own_randomness(fabric.device):
        step = training_step(spec, space_of(spec, registry), registry, fabric)
        times = [timed(step, fabric.device)[0] for _ in range(STEPS + 1)]
    return statistics.median(times[1:]), describe(fabric.device)


def _playing(spec: Spec, registry: Registry) -> tuple[float, dict[str, float] | None]:
    """Return the seconds for a second of takes, and for a streaming model the times of the latency budget."""
    player = untrained_player(spec, registry, fabric_of(spec.run).device)
    space, clock = player.tokenizer.space, player.model.clock
    sound = noise(space, round(SECONDS * space.frame_rate))
    how: Any = {"labels": {}, "seed": 0, "session": 0}
    perform(player, sound[: len(sound) // 4], **how)  # one-time costs
    if clock is None:
        played = perform(player, sound, **how)
        return sum(played.whole) / SECONDS, None
    played = play(player, sound, [space.hop] * (len(sound) // space.hop), **how)
    return 2 * sum(played.whole) / SECONDS, part_times(played, clock)
