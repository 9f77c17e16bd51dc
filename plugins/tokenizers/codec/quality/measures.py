"""Reconstruction quality of a codec: distances, levels, code usage, response to silence, and computing time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from attrs import field, frozen
from torch import Tensor

from accomp.plugin import Tokenizer, TokenSpace
from accomp.plugins.tokenizers.codec.quality.code_use import code_figures
from accomp.plugins.tokenizers.codec.quality.distances import LiteratureDistance, level_db, si_sdr
from accomp.plugins.tokenizers.codec.quality.intervals import Figure, decibels, figure, mean, ratio
from accomp.plugins.tokenizers.codec.quality.onsets import onset_f1
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import WINDOWS, SpectralDistance


@frozen(eq=False)
class ExcerptScores:
    """Scores of one excerpt, for a codec or another change of the sound.

    Attributes:
        name: of the excerpt.
        seconds: its length.
        numbers: of this excerpt alone, by name; si_sdr_db is missing where the original is silent, onset_f1 where it
            has no onset.
        energies: sums of squares of the original and of the decoded sound.
        frames: number of codec frames; 0 without a codec.
        codes: [K, T]; None for continuous latents, and without a codec.
        took: computing time (s), "encode" and "decode"; empty without a codec.
    """

    name: str
    seconds: float
    numbers: dict[str, float]
    energies: tuple[float, float]
    frames: int = 0
    codes: np.ndarray | None = None
    took: dict[str, float] = field(factory=dict)


class Distances:
    """All distances of two sounds at one sample rate (Hz)."""

    def __init__(self, rate: int):
        self._rate = rate
        self._spectral = SpectralDistance(rate)
        self._literature = LiteratureDistance(rate)

    def __call__(self, got: Tensor, wanted: Tensor) -> tuple[dict[str, float], tuple[float, float]]:
        """Both [N], decoded and original -> `numbers` and `energies` of ExcerptScores."""
        parts = self._spectral(got[None], wanted[None])
        numbers = {
            **self._literature(got, wanted),
            "log_mel_db": float(parts["log"]) * 20 / math.log(10),
            "linear": float(parts["linear"]),
            "low_coherence": 1 - float(parts["low"]),
        }
        if (sdr := si_sdr(got, wanted)) is not None:
            numbers["si_sdr_db"] = sdr
        if (f1 := onset_f1(got.numpy(), wanted.numpy(), self._rate)) is not None:
            numbers["onset_f1"] = f1
        return numbers, (float(wanted.double().square().sum()), float(got.double().square().sum()))


class CodecScorer:
    """Scores of a codec, excerpt by excerpt."""

    def __init__(self, codec: Tokenizer):
        self.codec = codec
        self.shortest = max(WINDOWS) + codec.space.delay
        """Smallest length of an excerpt, in samples."""
        self._distances = Distances(codec.space.sample_rate)

    def __call__(self, x: Tensor, name: str = "") -> tuple[ExcerptScores, Tensor]:
        """x [N] at the codec's rate -> its scores, and the decoded sound [N].

        Decoded sound is aligned with the original, since `decode` compensates the decoder's delay; the last `delay`
        samples, which would need frames after the end, are left out of all comparisons. Raises ValueError
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
        numbers, energies = self._distances(decoded[:n], x[:n])
        kept = codes[0].cpu().numpy() if space.codebooks else None
        scores = ExcerptScores(name, len(x) / space.sample_rate, numbers, energies, space.frames(len(x)), kept, took)
        return scores, decoded


def figures(scores: Sequence[ExcerptScores], space: TokenSpace | None = None) -> dict[str, Figure]:
    """Figures by name over excerpts, at least one; figures without a value are left out.

    Without the space of a codec with codes, those from codes_used_q to bitrate_entropy are left out.

    mel, stft, si_sdr_db   see distances.py; means over excerpts, as are the next three
    log_mel_db        mean |difference| of mel magnitudes in dB, over windows of 512 to 4096 samples (floor -90 dB)
    linear            sum |difference| / sum of the mel magnitudes
    low_coherence     waveform correlation below 640 Hz: 1 if the phase is kept, near 0 if not
    onset_f1          see onsets.py; mean
    rms_ratio         RMS of all that was decoded over that of the originals
    level_db          the same in dB
    codes_used_q      distinct codes of level q (from 1) over all excerpts
    perplexity_q      2 ** entropy of the code frequencies of level q: their effective number
    entropy_q         entropy of the code frequencies of level q, nats a code
    repeated_q        share of frames whose code of level q is the frame's before
    bitrate_entropy   frame rate * sum of these entropies in bits (bit/s): the rate of a memoryless entropy code
    encode_rtf, decode_rtf   computing time, one call an excerpt, over duration, on this machine
    """
    n = len(scores)
    found = {}
    for name in dict.fromkeys(name for one in scores for name in one.numbers):
        values = np.array([one.numbers[name] for one in scores if name in one.numbers])
        found[name] = figure(mean(values), len(values))
    original, decoded = np.array([one.energies for one in scores]).T
    found["rms_ratio"] = figure(ratio(decoded, original, 0.5), n)
    found["level_db"] = figure(decibels(ratio(decoded, original, 0.5)), n)
    codes = [one.codes for one in scores if one.codes is not None]
    if space is not None and space.codebooks:
        found |= code_figures(codes, space)
    seconds = np.array([one.seconds for one in scores])
    for name in scores[0].took:
        found[f"{name}_rtf"] = figure(ratio(np.array([one.took[name] for one in scores]), seconds), n)
    return found


def measure(codec: Tokenizer, excerpts: Sequence[Tensor]) -> dict[str, float]:
    """`figures` of excerpts [N], each coded by itself, without their intervals, and the response to silence.

    Raises ValueError when there are no excerpts or one is shorter than 4096 samples plus the codec's delay.
    """
    scorer = CodecScorer(codec)
    if not excerpts or min(len(x) for x in excerpts) < scorer.shortest:
        raise ValueError(f"need at least one excerpt, each of {scorer.shortest} samples or more")
    scores = [scorer(x)[0] for x in excerpts]
    found = {name: one.value for name, one in figures(scores, codec.space).items()}
    return {**found, "bitrate": nominal_bitrate(codec), "silence_db": silence_db(codec)}


def nominal_bitrate(codec: Tokenizer) -> float:
    """frame rate * K * log2 C, in bit/s; 0 for continuous latents."""
    space = codec.space
    return 0.0 if not space.codebooks else space.frame_rate * space.codebooks * math.log2(space.codebook_size)


def silence_db(codec: Tokenizer, before: Tensor | None = None) -> float:
    """RMS, dB re full scale, of one second of decoded digital silence; -200 where that is digital silence itself.

    `before` [N]: sound that precedes two seconds of silence, of which the second is measured.
    """
    rate = codec.space.sample_rate
    sound = torch.zeros(rate) if before is None else torch.cat([before, torch.zeros(2 * rate)])
    return level_db(codec.decode(codec.encode(sound[None]))[0, : len(sound)].cpu()[-rate:])


def table(numbers: dict[str, float]) -> str:
    """Names and numbers, a line each."""
    width = max(map(len, numbers))
    return "\n".join(f"  {name:{width}}  {value:.4g}" for name, value in numbers.items())
