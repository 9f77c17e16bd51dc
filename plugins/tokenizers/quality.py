"""How well a codec keeps music: distances, levels, use of its codes, silence, and the time it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from accomp.core import audio
from accomp.core.interfaces import Tokenizer
from accomp.plugins.tokenizers.losses import SpectralDistance


def excerpt(path: Path, rate: int, seconds: float) -> Tensor:
    """[N] at `rate` Hz: `seconds` from the middle of a file, or all of a shorter one."""
    samples, native = audio.duration(path)
    start = max(0.0, (samples / native - seconds) / 2)
    return torch.from_numpy(audio.read(path, rate, start=start, seconds=seconds))


def measure(codec: Tokenizer, excerpts: Sequence[Tensor]) -> dict[str, float]:
    """Numbers by name over excerpts [N], each coded by itself.

    log_mel_db      mean |difference| of mel magnitudes in dB, over windows of 512 to 4096 samples (floor -90 dB)
    linear          sum |difference| / sum of the mel magnitudes
    rms_ratio       RMS of all decoded excerpts over that of the originals
    low_coherence   waveform correlation below 640 Hz: 1 if the phase is kept, near 0 if not
    codes_used_q    distinct codes of level q (from 1) over all excerpts; perplexity_q their effective number
    silence_db      RMS of decoded digital silence, dB re full scale (-200 where it is digital silence)
    encode_s, decode_s   seconds of work per 10 s of audio, as measured here and now

    Raises ValueError when there are no excerpts or one is shorter than 4096 samples plus the codec's delay.
    """
    shortest = 4096 + codec.space.delay
    if not excerpts or min(len(x) for x in excerpts) < shortest:
        raise ValueError(f"need at least one excerpt, each of {shortest} samples or more")
    distance = SpectralDistance(codec.space.sample_rate)
    sums = {"log": 0.0, "linear": 0.0, "low": 0.0}
    energy = {"decoded": 0.0, "original": 0.0}
    counts = torch.zeros(codec.space.codebooks, codec.space.codebook_size)
    took = {"encode": 0.0, "decode": 0.0}
    for x in excerpts:
        began = time.perf_counter()
        codes = codec.encode(x[None])
        between = time.perf_counter()
        y = codec.decode(codes)[:, : len(x)].cpu()
        took["encode"] += between - began
        took["decode"] += time.perf_counter() - between
        n = len(x) - codec.space.delay
        for name, value in distance(y[:, :n], x[None, :n]).items():
            if name in sums:
                sums[name] += float(value) / len(excerpts)
        energy["decoded"] += float(y[:, :n].square().sum())
        energy["original"] += float(x[:n].square().sum())
        for level, row in zip(counts, codes[0].cpu(), strict=True):
            level += torch.bincount(row, minlength=len(level))
    result = {
        "log_mel_db": sums["log"] * 20 / torch.log(torch.tensor(10.0)).item(),
        "linear": sums["linear"],
        "rms_ratio": (energy["decoded"] / max(energy["original"], 1e-12)) ** 0.5,
        "low_coherence": 1 - sums["low"],
    }
    for q, level in enumerate(counts, 1):
        p = level / level.sum()
        result[f"codes_used_{q}"] = float((level > 0).sum())
        result[f"perplexity_{q}"] = float(torch.exp(-(p * torch.log(p.clamp(min=1e-12))).sum()))
    silence = codec.decode(codec.encode(torch.zeros(1, codec.space.sample_rate)))
    result["silence_db"] = float(20 * torch.log10(silence.square().mean().sqrt().clamp(min=1e-10)))
    length = sum(len(x) for x in excerpts) / codec.space.sample_rate
    return result | {f"{name}_s": seconds * 10 / length for name, seconds in took.items()}


def table(numbers: dict[str, float]) -> str:
    """Names and numbers, a line each."""
    width = max(map(len, numbers))
    return "\n".join(f"  {name:{width}}  {value:.4g}" for name, value in numbers.items())
