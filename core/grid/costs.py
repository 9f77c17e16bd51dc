"""Cost estimates of the work of a grid: from its own measurements, else from a calibration, else from stored figures.

Every estimate names its source. Measurements in this grid's folders are of steps of the same training shape, takes of
the same kind, and clips scored by the same metrics.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import field, frozen

from accomp.core.grid.record import step_seconds
from accomp.core.grid.work import GridWork, Work
from accomp.core.registry import Registry
from accomp.core.spec.build import build_model, space_of, without_memory
from accomp.core.spec.fingerprints import digest
from accomp.core.spec.schema import Spec, resolve

CALIBRATION = "calibration.json"

MEASURED, CALIBRATED, STORED = "measured in this grid", "calibrated on this machine", "stored figures of other machines"

CPU_TRAINING, GPU_TRAINING = 46e9, 1e14
"""Operations a second while training. One CPU thread: benchmarks/results/models-cpu.md. GPU: assumed, not measured."""
CPU_STEP, CPU_PLAYING, GPU_STEP = 4e-3, 6e9, 15e-3
"""Playing a step on one CPU thread: seconds, and operations a second on top of them. GPU: seconds, assumed."""
JUDGING = 3.0
"""Seconds of one metric for ten seconds of audio, on one CPU thread; metrics differ widely."""
COPIES = 3
"""Numbers of 4 bytes that a checkpoint stores for a weight: itself, and two of the optimizer."""


@frozen
class Estimate:
    """An estimate in `seconds`, with its source."""

    seconds: float
    source: str


@frozen
class Rates:
    """Known times by shape.

    Attributes:
        steps: training shape -> an optimizer step.
        playing: playing shape -> a second of sound.
        judging: metrics -> one clip.
        parts: playing shape -> times of the latency budget, of each measurement, and the source.
        weights: training shape -> number of parameters of its model, where counted.
    """

    steps: dict[str, Estimate] = field(factory=dict)
    playing: dict[str, Estimate] = field(factory=dict)
    judging: dict[str, Estimate] = field(factory=dict)
    parts: dict[str, tuple[list[dict[str, float]], str]] = field(factory=dict)
    weights: dict[str, int] = field(factory=dict)


def training_shape(spec: Spec) -> str:
    """Return a key that is equal for trainings with equally long steps: t_f, seed and schedule do not matter."""
    return digest(_shape(spec))


def playing_shape(spec: Spec) -> str:
    """Return a key that is equal for models that play equally fast."""
    data = resolve(spec)
    return digest([_shape(spec), data["sampler"], sorted(data["guidance"])])


def judging_shape(spec: Spec) -> str:
    """Return a key that is equal where clips are scored equally fast."""
    return digest([resolve(spec)["metric"], spec.generate.seconds])


def known_rates(work: GridWork) -> Rates:
    """Read the times in the grid's folders, and its calibration for the others."""
    rates = Rates()
    for source, found in ((CALIBRATED, _calibrated(work.grid.folder)), (MEASURED, _measured(work))):
        for table, key, value in found:
            if table == "parts":
                rates.parts[key] = (value, source)
            else:
                getattr(rates, table)[key] = Estimate(value, source)
    return rates


def training_cost(spec: Spec, registry: Registry, rates: Rates) -> Estimate:
    """Estimate all steps of a training, or of as many as its minutes allow."""
    known = rates.steps.get(training_shape(spec))
    if known is None:
        frames = spec.train.batch * spec.train.accumulate * spec.train.frames
        speed = GPU_TRAINING if _on_gpu(spec) else CPU_TRAINING
        known = Estimate(6 * weights(spec, registry, rates) * frames / speed, STORED)
    limit = math.inf if spec.train.minutes is None else 60 * spec.train.minutes
    return Estimate(min(known.seconds * spec.train.steps, limit), known.source)


def playing_cost(spec: Spec, registry: Registry, rates: Rates) -> Estimate:
    """Estimate all takes of a cell. A streaming model plays twice, as a check that block sizes do not matter."""
    known = rates.playing.get(playing_shape(spec))
    if known is None:
        space = space_of(spec, registry)
        step = GPU_STEP if _on_gpu(spec) else CPU_STEP + 2 * weights(spec, registry, rates) / CPU_PLAYING
        known = Estimate(step * space.frame_rate * (1 if spec.clock is None else 2), STORED)
    return Estimate(known.seconds * spec.generate.takes * spec.generate.seconds, known.source)


def judging_cost(spec: Spec, clips: int, rates: Rates) -> Estimate:
    """Estimate the scoring of a number of clips by the spec's metrics."""
    stored = Estimate(JUDGING * len(spec.metric) * spec.generate.seconds / 10, STORED)
    known = rates.judging.get(judging_shape(spec), stored)
    return Estimate(known.seconds * clips, known.source)


def training_bytes(spec: Spec, registry: Registry, rates: Rates) -> int:
    """Estimate the checkpoints that a training keeps, the best one beside the newest."""
    return 4 * COPIES * weights(spec, registry, rates) * (spec.train.keep + 1)


def takes_bytes(spec: Spec, registry: Registry) -> int:
    """Estimate four sounds a take, 16 bits a sample."""
    return round(4 * 2 * space_of(spec, registry).sample_rate * spec.generate.seconds * spec.generate.takes)


def bytes_in(folder: Path) -> int:
    """Sum the sizes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def weights(spec: Spec, registry: Registry, rates: Rates) -> int:
    """Count the parameters of a spec's model, once a shape.

    The model is built without memory for them, where its parts allow it.
    """
    shape = training_shape(spec)
    if shape not in rates.weights:
        space = space_of(spec, registry)
        model = without_memory(lambda: build_model(spec, space, registry))
        rates.weights[shape] = sum(weight.numel() for weight in model.parameters())
    return rates.weights[shape]


def _shape(spec: Spec) -> list[Any]:
    data = resolve(spec)
    parts = [data[name] for name in ("tokenizer", "conditions", "model", "fuser", "backbone", "objective")]
    train = {name: data["train"][name] for name in ("batch", "accumulate", "frames")}
    return [parts, train, spec.clock.k if spec.clock else None, spec.run.precision]


def _on_gpu(spec: Spec) -> bool:
    return spec.run.accelerator in ("auto", "cuda") and torch.cuda.is_available()


def _calibrated(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield (table of Rates, key, value) from calibration.json; nothing where it is missing or damaged."""
    try:
        data = json.loads((folder / CALIBRATION).read_text(encoding="utf-8"))
        yield from [
            (table, key, value) for table in ("steps", "playing", "parts") for key, value in data[table].items()
        ]
    except (OSError, ValueError, KeyError, AttributeError):
        return


def _measured(work: GridWork) -> Iterator[tuple[str, str, Any]]:
    """Yield the same from the grid's own trainings and cells, as medians."""
    steps: dict[str, list[float]] = {}
    for piece in work.of_kind("training"):
        if (seconds := step_seconds(piece.folder, piece.spec)) is not None:
            steps.setdefault(training_shape(piece.spec), []).append(seconds)
    yield from (("steps", key, float(np.median(values))) for key, values in steps.items())

    playing: dict[str, list[float]] = {}
    judging: dict[str, list[float]] = {}
    parts: dict[str, list[dict[str, float]]] = {}
    for piece in work.of_kind("cell"):
        record = piece.record()
        if record is None:
            continue
        takes = list(_takes(piece))
        shape = playing_shape(piece.spec)
        if piece.spec.clock is not None:
            parts.setdefault(shape, []).extend(take["timings"]["parts"] for take in takes)
        if not record["resumed"] and takes:
            seconds = sum(take["seconds"] for take in takes)
            playing.setdefault(shape, []).append(record["seconds"]["generate"] / seconds)
            judging.setdefault(judging_shape(piece.spec), []).append(record["seconds"]["evaluate"] / len(takes))
    yield from (("playing", key, float(np.median(values))) for key, values in playing.items())
    yield from (("judging", key, float(np.median(values))) for key, values in judging.items())
    yield from (("parts", key, values) for key, values in parts.items())


def _takes(piece: Work) -> Iterable[dict[str, Any]]:
    for path in sorted((piece.folder / "takes").glob("*/take.json")):
        yield json.loads(path.read_text(encoding="utf-8"))
