"""coherence: its shipped weights, the numbers they give, and what they hear."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from accomp.core.errors import CheckpointError
from accomp.core.types import Take
from accomp.plugins.metrics.coherence.files import load, save, shipped
from accomp.plugins.metrics.coherence.hpss_mels import SAMPLE_RATE
from accomp.plugins.metrics.coherence.metric import Coherence
from accomp.plugins.metrics.coherence.network import CoherenceNetwork

BEAT = 0.5
GOLDEN = {"coherence": 15.9406, "coherence_harmonic": 13.1277, "coherence_percussive": 15.3412, "silent_windows": 0.0}
"""What the shipped weights give for the drums and the bass below."""


def drums(seconds: float, late: float = 0.0, beat: float = BEAT) -> np.ndarray:
    """A low thud and a hiss in turn, on every beat."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE - late
    since, number = time % beat, np.floor(time / beat)
    noise = np.random.default_rng(0).standard_normal(len(time))
    thud = np.sin(2 * np.pi * 60 * since) * np.exp(-20 * since) * (number % 2 == 0)
    return (0.4 * thud + 0.1 * noise * np.exp(-40 * since) * (number % 2 == 1)).astype(np.float32)


def bass(seconds: float, late: float = 0.0, beat: float = BEAT) -> np.ndarray:
    """A note on every beat, four notes in turn."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE - late
    since, number = time % beat, np.floor(time / beat).astype(int)
    hertz = np.array([55.0, 55.0, 82.4, 73.4])[number % 4]
    tone = sum(np.sin(2 * np.pi * n * hertz * since) / n for n in range(1, 6))
    return (0.2 * tone * np.exp(-5 * since) * np.minimum(1, 200 * since)).astype(np.float32)


def scores(context: np.ndarray, **stems: np.ndarray) -> dict[str, dict[str, float]]:
    metric = Coherence(Coherence.Config())
    for name, stem in stems.items():
        metric.update(Take(name, context, stem, SAMPLE_RATE, 0))
    return metric.per_take()


def test_the_shipped_weights_give_the_numbers_that_they_gave():
    found = scores(drums(7), bass=bass(7))["bass"]
    assert found == pytest.approx(GOLDEN, abs=1e-2)


def test_a_stem_on_the_beat_scores_above_one_off_it_and_above_another_tempo():
    found = scores(
        drums(10), on=bass(10), off=bass(10, late=0.2), slower=bass(10, beat=0.43), faster=bass(10, beat=0.61)
    )
    for mode in ("coherence", "coherence_percussive"):
        for wrong in ("off", "slower", "faster"):
            assert found["on"][mode] > found[wrong][mode], (mode, wrong)


def test_the_shipped_file_is_small_and_tells_where_it_comes_from():
    assert shipped().stat().st_size < 500_000
    told = json.loads(shipped().with_suffix(".json").read_text())
    assert told["fingerprint"] == load(shipped())[1]
    assert told["licence"] == "MIT"
    assert {"data", "train", "validation", "held_out"} <= set(told)
    assert told["held_out"]["weights"] == told["fingerprint"]
    assert told["held_out"]["numbers"]["random, both"]["auc"] > 0.85
    assert load(shipped())[1] in Coherence(Coherence.Config()).provenance
    assert "not comparable" in Coherence(Coherence.Config()).provenance


def test_weights_of_ones_own_are_used(tmp_path: Path):
    path = tmp_path / "own.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save(CoherenceNetwork(), path)
    take = Take("a", drums(2), bass(2), SAMPLE_RATE, 0)
    own, theirs = Coherence(Coherence.Config(weights=str(path))), Coherence(Coherence.Config())
    own.update(take)
    theirs.update(take)
    assert own.result()["coherence"] != theirs.result()["coherence"]


def test_files_that_are_something_else_are_refused(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match="no such file; `accomp coherence train"):
        Coherence(Coherence.Config(weights=str(path)))
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load(path)
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not the weights of `coherence`"):
        load(path)
    save(CoherenceNetwork(), path)
    tensors = safetensors.torch.load_file(path)
    tensors[sorted(tensors)[0]].view(-1)[0] = torch.nan
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(CheckpointError, match="the weights hold NaN or Inf"):
        load(path)
