"""How well a codec keeps music: distances, levels, use of its codes, silence, and the time it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from accomp.core.interfaces import Tokenizer
from accomp.plugins.tokenizers.distances import LiteratureDistance, level_db, si_sdr
from accomp.plugins.tokenizers.intervals import Figure, codes_used, entropy, figure, mean, perplexity, ratio
from accomp.plugins.tokenizers.losses import WINDOWS, SpectralDistance


@frozen(eq=False)
class Judged:
    """What one excerpt says of a codec.

    Attributes:
        name: of the excerpt.
        seconds: its length.
        frames: as many as the codec makes of it.
        numbers: of this excerpt alone, by name; si_sdr_db is missing where the original is silent.
        energies: sums of squares of the original and of what was decoded.
        counts: [K, C], how often each code of each level was used; None for continuous latents.
        took: seconds of work, "encode" and "decode".
    """

    name: str
    seconds: float
    frames: int
    numbers: dict[str, float]
    energies: tuple[float, float]
    counts: np.ndarray | None
    took: dict[str, float]


class Judge:
    """A codec under examination."""

    def __init__(self, codec: Tokenizer):
        self.codec = codec
        self.shortest = max(WINDOWS) + codec.space.delay
        """Samples that an excerpt must have at least."""
        self._spectral = SpectralDistance(codec.space.sample_rate)
        self._literature = LiteratureDistance(codec.space.sample_rate)

    def __call__(self, x: Tensor, name: str = "") -> tuple[Judged, Tensor]:
        """x [N] at the codec's rate -> what it says, and what was decoded [N].

        Decoded sound belongs to the same samples of the original, for `decode` makes up for the decoder's delay; the
        last `delay` samples, which would need frames after the end, are left out of all comparisons. Raises ValueError
        for an excerpt that is too short.
        """
        if len(x) < self.shortest:
            raise ValueError(f"the excerpt {name!r} has {len(x)} samples; need {self.shortest} or more")
        space = self.codec.space
        began = time.perf_counter()
        codes = self.codec.encode(x[None])
        between = time.perf_counter()
        decoded = self.codec.decode(codes)[0, : len(x)].cpu()
        took = {"encode": between - began, "decode": time.perf_counter() - between}
        n = len(x) - space.delay
        got, wanted = decoded[:n], x[:n]
        parts = self._spectral(got[None], wanted[None])
        numbers = {
            **self._literature(got, wanted),
            "log_mel_db": float(parts["log"]) * 20 / math.log(10),
            "linear": float(parts["linear"]),
            "low_coherence": 1 - float(parts["low"]),
        }
        if (sdr := si_sdr(got, wanted)) is not None:
            numbers["si_sdr_db"] = sdr
        counts = _counts(codes[0], space.codebook_size) if space.codebooks else None
        energies = (float(wanted.double().square().sum()), float(got.double().square().sum()))
        return Judged(name, len(x) / space.sample_rate, space.frames(len(x)), numbers, energies, counts, took), decoded


def figures(judged: Sequence[Judged], frame_rate: float) -> dict[str, Figure]:
    """Figures by name over excerpts, at least one; a figure that none of them has is left out.

    mel, stft, si_sdr_db   see distances.py; means over excerpts, as are the next three
    log_mel_db        mean |difference| of mel magnitudes in dB, over windows of 512 to 4096 samples (floor -90 dB)
    linear            sum |difference| / sum of the mel magnitudes
    low_coherence     waveform correlation below 640 Hz: 1 if the phase is kept, near 0 if not
    rms_ratio         RMS of all that was decoded over that of the originals
    codes_used_q      distinct codes of level q (from 1) over all excerpts
    perplexity_q      2 ** entropy of the code frequencies of level q: their effective number
    bitrate_entropy   frame rate * sum of these entropies (bit/s): what the codes would need, coded one by one
    encode_rtf, decode_rtf   time of work, in one call an excerpt, over time of music, as measured here and now
    """
    n = len(judged)
    found = {}
    for name in dict.fromkeys(name for one in judged for name in one.numbers):
        values = np.array([one.numbers[name] for one in judged if name in one.numbers])
        found[name] = figure(mean(values), len(values))
    original, decoded = np.array([one.energies for one in judged]).T
    found["rms_ratio"] = figure(ratio(decoded, original, 0.5), n)
    if counted := [one.counts for one in judged if one.counts is not None]:
        found |= _code_figures(np.stack(counted, axis=1), frame_rate)
    seconds = np.array([one.seconds for one in judged])
    for name in ("encode", "decode"):
        found[f"{name}_rtf"] = figure(ratio(np.array([one.took[name] for one in judged]), seconds), n)
    return found


def _counts(codes: Tensor, size: int) -> np.ndarray:
    """codes [K, T] -> [K, C]."""
    return np.stack([np.bincount(level, minlength=size) for level in codes.cpu().numpy()])


def _code_figures(levels: np.ndarray, frame_rate: float) -> dict[str, Figure]:
    """levels [K, n, C]: how often each code is used, by level and excerpt."""
    n, found = levels.shape[1], {}
    for q, counts in enumerate(levels, 1):
        found[f"codes_used_{q}"] = figure(codes_used(counts), n, pooled=True)
        found[f"perplexity_{q}"] = figure(perplexity(counts), n, pooled=True)
    each = [entropy(counts) for counts in levels]
    found["bitrate_entropy"] = figure(lambda w: frame_rate * np.sum([bits(w) for bits in each], axis=0), n, pooled=True)
    return found


def measure(codec: Tokenizer, excerpts: Sequence[Tensor]) -> dict[str, float]:
    """`figures` of excerpts [N], each coded by itself, without their intervals, and what silence becomes.

    Raises ValueError when there are no excerpts or one is shorter than 4096 samples plus the codec's delay.
    """
    judge = Judge(codec)
    if not excerpts or min(len(x) for x in excerpts) < judge.shortest:
        raise ValueError(f"need at least one excerpt, each of {judge.shortest} samples or more")
    judged = [judge(x)[0] for x in excerpts]
    found = {name: one.value for name, one in figures(judged, codec.space.frame_rate).items()}
    return {**found, "bitrate": nominal_bitrate(codec), "silence_db": silence_db(codec)}


def nominal_bitrate(codec: Tokenizer) -> float:
    """frame rate * K * log2 C, in bit/s; 0 for continuous latents, of which nothing is known."""
    space = codec.space
    return 0.0 if not space.codebooks else space.frame_rate * space.codebooks * math.log2(space.codebook_size)


def silence_db(codec: Tokenizer, before: Tensor | None = None) -> float:
    """RMS, dB re full scale, of one second of decoded digital silence; -200 where that is digital silence itself.

    `before` [N]: sound that the codec hears first; then two seconds of silence follow, and the second is judged.
    """
    rate = codec.space.sample_rate
    sound = torch.zeros(rate) if before is None else torch.cat([before, torch.zeros(2 * rate)])
    return level_db(codec.decode(codec.encode(sound[None]))[0, : len(sound)].cpu()[-rate:])


def table(numbers: dict[str, float]) -> str:
    """Names and numbers, a line each."""
    width = max(map(len, numbers))
    return "\n".join(f"  {name:{width}}  {value:.4g}" for name, value in numbers.items())
