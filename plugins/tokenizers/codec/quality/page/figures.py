"""Names, units and meanings of the figures on the page, and how a figure is written in a table."""

from __future__ import annotations

from typing import Any

from accomp.plugin.pages import (
    tag,
)
from accomp.plugin.sound import LISTENING_LUFS

FIGURES = {  # name -> heading, which way is better, decimals
    "fad": ("FAD", "lower is better", 2),
    "fad_inf": ("FAD, limit", "lower is better", 2),
    "mel": ("mel distance", "lower is better", 2),
    "stft": ("STFT distance", "lower is better", 2),
    "si_sdr_db": ("SI-SDR, dB", "higher is better", 1),
    "log_mel_db": ("log mel, dB", "lower is better", 2),
    "level_db": ("level, dB", "0 is unchanged", 1),
    "onset_f1": ("onset F1", "higher is better", 2),
    "low_coherence": ("phase below 640 Hz", "higher is better", 2),
}
OF_LEVELS = {  # name -> heading, decimals
    "codes_used": ("codes used", 0),
    "perplexity": ("perplexity", 0),
    "entropy": ("entropy, nats a code", 2),
    "repeated": ("repeated", 3),
    "frequency": ("by training frequencies, nats a code", 2),
    "predicted": ("predicted, nats a code", 2),
}
MEANINGS = (
    ("FAD", "Frechet distance |a - b|² + tr(A + B - 2 (A B)^½) of the embeddings' means a, b and covariances A, B, of "
     "decoded and original (arXiv 1812.08466), at the embedder's rate, both by the gain that sets the original to "
     f"{LISTENING_LUFS:g} LUFS. It reacts to wrong phases. A small set's is too large, by about as "
     "much in each row; its limit: extrapolated to infinitely many excerpts (as in arXiv 1911.07023), from 8 on; "
     "may be negative. No interval below 4."),
    ("mel distance", "sum over seven windows w = 32 ... 2048 samples (hop w / 4; 5 ... 320 mel bands) of the mean "
     "|log10 m' - log10 m| of mel magnitudes m, at least 1e-5. As in arXiv 2306.06546 (section 3.5, 4.3), by the dac "
     "package's own code, at the codec's sample rate and at the music's own level."),
    ("STFT distance", "sum over windows of 2048 and 512 samples of the mean |log10 S'² - log10 S²| + |S' - S| of STFT "
     "magnitudes S; the same source."),
    ("SI-SDR", "10 log10(|a s|² / |y - a s|²) dB with a = <y, s> / <s, s>, original s and decoded y less their means "
     "(Le Roux et al. 2019), from -100 to 100; originals below -80 dB have none. Codecs that do not code the phase "
     "score low, whatever their quality."),
    ("log mel", "mean difference of mel magnitudes in dB, windows of 512 to 4096 samples, floor -90 dB."),
    ("level", "RMS of all that was decoded over that of the originals, in dB."),
    ("onset F1", "F-measure of the onsets of decoded against original, matched one to one within 50 ms (librosa's "
     "detector, mir_eval's matching); originals without onset have none."),
    ("known damage", "rows without codes, to read the others by: white noise 30 or 15 dB below the excerpt's RMS; "
     "exact magnitudes (windows of 40 ms, every 10 ms) with random phases; 80 mel bands every 20 ms, played by 32 "
     "rounds of Griffin-Lim; the next song's excerpt. A figure that rates one of them like a good codec "
     "is insensitive to that damage."),
    ("phase below 640 Hz", "correlation of the complex spectra of original and decoded there: 1 if the waveform is "
     "kept, near 0 if the decoder chooses it."),
    ("codes used, perplexity", "how many of a level's codes occur in the frames stated, and 2 to the power of the "
     "entropy of their frequencies: as how many equally frequent codes they count."),
    ("repeated", "share of frames whose code is the frame's before, level by level."),
    ("predicted", "held-out loss, nats a code, of one small fixed predictor (two causal Transformer layers of width "
     "128 and a context of 4 s; a frame's levels one after the other; 500 steps) of the codes of the train mixes: "
     "the learnable part of a codec's codes. By training frequencies: the loss of a predictor without context."),
    ("bit rate", "nominal: frame rate x levels x log2 of the codes a level. Entropy: frame rate x the entropies' sum, "
     "the rate of codes that are each coded alone by their frequencies."),
    ("alignment", "decoded sound is compared with the same samples of the original; a decoder's delay is compensated, "
     "and the end, which would need frames after the excerpt, is left out."),
    ("intervals", "95 %; of FAD by the jackknife over excerpts, one left out at a time, or a 20th of them; else "
     "by the bootstrap over excerpts, 1000 draws: percentiles; for codes and bit rates the value ± 1.96 standard "
     "deviations of the draws, since a draw lacks some excerpts and with them their codes."),
)  # fmt: skip


def cell(figure: dict[str, Any] | None, decimals: int, *, n: bool = False) -> object:
    if figure is None:
        return "none"
    text = number(figure["value"], decimals)
    span = "" if figure["low"] is None else f"{number(figure['low'], decimals)} to {number(figure['high'], decimals)}"
    details = ", ".join(filter(None, [span, f"n = {figure['n']}" if n else ""]))
    return [text, tag("small", details, class_="span")] if details else text


def number(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # + 0.0: no minus before a zero


def whole(codec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The group that stands for all: mixes or files, else all stems."""
    group = next(iter(codec["groups"]))
    return group, codec["groups"][group]["figures"]
