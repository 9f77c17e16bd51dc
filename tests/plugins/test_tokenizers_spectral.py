"""What is special about `spectral`: sounds whose phase nobody predicts are steady, and its recipes fit its weights."""

import math
from pathlib import Path

import pytest
import torch

from accomp.core.registry import Registry
from accomp.plugins.tokenizers import weight_files
from accomp.plugins.tokenizers.causal import History
from accomp.plugins.tokenizers.codec_spec import load_codec_spec
from accomp.plugins.tokenizers.spectral_network import HOP, SUBFRAMES, SYNTHESIS, Synthesis


@pytest.mark.parametrize("number", [3, 4, 24, 25, 60, 61])
def test_a_bin_whose_phases_stay_what_they_are_is_a_steady_tone(number):
    """Of even and odd bins, with a vector for the phase or an angle. (One bin alone is half a tone.)"""
    said = torch.empty(Synthesis.size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        Synthesis.start(said)
    for part in said.chunk(SUBFRAMES):
        part[: Synthesis.bins] = -30.0
        part[number] = 0.0
    sound = Synthesis()(said.expand(1, 12, -1), History(), final=True)[0]
    assert len(sound) == 12 * HOP + SYNTHESIS // 2
    sound = sound[2 * HOP : 10 * HOP].double()
    turns = torch.arange(len(sound), dtype=torch.float64) * (2 * math.pi * number / SYNTHESIS)
    level = 2 * torch.hypot((sound * turns.cos()).mean(), (sound * turns.sin()).mean())
    assert float(level) == pytest.approx(0.5, rel=1e-3)
    assert float(sound.square().mean().sqrt()) == pytest.approx(0.5 / math.sqrt(2), rel=1e-3)


@pytest.mark.parametrize("name", ["codec_spectral", "codec_spectral_gpu"])
def test_what_the_recipes_train_has_the_shipped_sizes(name):
    spec = load_codec_spec(Path(name), Registry(third_party=False))
    sizes = weight_files.own_sizes(weight_files.SHIPPED / "spectral.safetensors", "spectral")
    assert spec.tokenizer.architecture(spec.config) == sizes
    assert spec.train.codebooks == spec.tokenizer.Config().codebooks
