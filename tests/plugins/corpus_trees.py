"""Small corpora on disk, and what every reader of one is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from accomp.core.music.instruments import CLASSES
from accomp.core.types import TokenSpace, Track

SPACE = TokenSpace(sample_rate=32000, hop=640, codebooks=1, codebook_size=2, latent_dim=1)


def write_sound(path: Path, *, rate: int = 44100, channels: int = 2, seconds: float = 1.0, seed: int = 0, loud=0.1):
    """Noise, 16 bits; `loud` 0 is silence. Gives its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-loud, loud, (round(seconds * rate), channels))
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return path


def classes(track: Track) -> dict[str, str]:
    """Stem name -> class name."""
    return {name: CLASSES[stem.instrument] for name, stem in track.stems.items()}
