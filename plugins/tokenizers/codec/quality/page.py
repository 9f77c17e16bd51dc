"""The page that compares codecs: one HTML file that loads nothing, made from the record of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from accomp.core.audio.io import resample
from accomp.core.audio.loudness import LISTENING_LUFS
from accomp.core.pages.charts import Bars, Interval, bar_chart, interval_chart
from accomp.core.pages.document import Section, document
from accomp.core.pages.html import Html, table, tag
from accomp.core.pages.players import folded_after, player, player_grid
from accomp.core.pages.sound import RANGE, SPREAD, difference_data, lossless_data, spectrogram_data
from accomp.plugins.tokenizers.codec.quality.comparison import STEMS, DecodedStretch
from accomp.plugins.tokenizers.codec.quality.excerpts import FILES, MIXES

_STYLES = ("accent", "second", "third", "quiet")
_FIGURES = {  # name -> heading, which way is better, decimals
    "fad": ("FAD", "lower is better", 2),
    "fad_inf": ("FAD, endless music", "lower is better", 2),
    "mel": ("mel distance", "lower is better", 2),
    "stft": ("STFT distance", "lower is better", 2),
    "si_sdr_db": ("SI-SDR, dB", "higher is better", 1),
    "log_mel_db": ("log mel, dB", "lower is better", 2),
    "level_db": ("level, dB", "0 keeps it", 1),
    "onset_f1": ("onset F1", "1 keeps all", 2),
    "low_coherence": ("phase below 640 Hz", "1 keeps it", 2),
}
_OF_LEVELS = {  # name -> heading, decimals
    "codes_used": ("codes used", 0),
    "perplexity": ("perplexity", 0),
    "entropy": ("entropy, nats a code", 2),
    "repeated": ("repeated", 3),
    "frequency": ("by training frequencies, nats a code", 2),
    "predicted": ("predicted, nats a code", 2),
}
SHOWN = 3
"""Excerpts that are not folded."""
_TOLD = ("codebooks", "codebook_size", "seed")
"""Keys of a configuration that have rows of their own, or mean nothing for trained weights."""
_BY_CLASS = ("fad", "mel", "stft", "si_sdr_db", "level_db")
_MEANINGS = (
    ("FAD", "Frechet distance |a - b|² + tr(A + B - 2 (A B)^½) of the embeddings' means a, b and covariances A, B, of "
     "decoded and original (arXiv 1812.08466), at the embedder's rate, both by the gain that sets the original to "
     f"{LISTENING_LUFS:g} LUFS. It reacts to wrong phases. A small set's is too large, by about as "
     "much in each row; endless music: extrapolated to infinitely many excerpts (as in arXiv 1911.07023), from 8 on, "
     "and may be negative. No interval below 4."),
    ("mel distance", "sum over seven windows w = 32 ... 2048 samples (hop w / 4; 5 ... 320 mel bands) of the mean "
     "|log10 m' - log10 m| of mel magnitudes m, at least 1e-5. As in arXiv 2306.06546 (section 3.5, 4.3), by the dac "
     "package's own code, at the codec's sample rate and at the music's own level."),
    ("STFT distance", "sum over windows of 2048 and 512 samples of the mean |log10 S'² - log10 S²| + |S' - S| of STFT "
     "magnitudes S; the same source."),
    ("SI-SDR", "10 log10(|a s|² / |y - a s|²) dB with a = <y, s> / <s, s>, original s and decoded y less their means "
     "(Le Roux et al. 2019), from -100 to 100; originals below -80 dB have none. Codecs that make up the phase score "
     "low here, however they sound."),
    ("log mel", "mean difference of mel magnitudes in dB, windows of 512 to 4096 samples, floor -90 dB."),
    ("level", "RMS of all that was decoded over that of the originals, in dB."),
    ("onset F1", "F-measure of the onsets of decoded against original, matched one to one within 50 ms (librosa's "
     "detector, mir_eval's matching); originals without onset have none."),
    ("known damage", "rows without codes, to read the others by: white noise 30 or 15 dB below the excerpt's RMS; "
     "exact magnitudes (windows of 40 ms, every 10 ms) with random phases; 80 mel bands every 20 ms, played by 32 "
     "rounds of Griffin-Lim; the next song's excerpt. A figure that does not tell one of them from a good codec "
     "does not measure it."),
    ("phase below 640 Hz", "correlation of the complex spectra of original and decoded there: 1 if the waveform is "
     "kept, near 0 if it is made up."),
    ("codes used, perplexity", "how many of a level's codes occur in the frames stated, and 2 to the power of the "
     "entropy of their frequencies: as how many equally frequent codes they count."),
    ("repeated", "share of frames whose code is the frame's before, level by level."),
    ("predicted", "held-out loss, nats a code, of one small fixed predictor (two causal Transformer layers of width "
     "128 and a context of 4 s; a frame's levels one after the other; 500 steps) of the codes of the train mixes: "
     "the learnable part of a codec's codes. By training frequencies: the loss of a predictor without context."),
    ("bit rate", "nominal: frame rate x levels x log2 of the codes a level. Entropy: frame rate x the entropies' sum, "
     "the rate of codes that are each coded alone by their frequencies."),
    ("alignment", "decoded sound is compared with the same samples of the original; what a decoder delays is made up "
     "for, and the end that would need frames after the excerpt is left out."),
    ("intervals", "95 %; of FAD by the jackknife over excerpts, one left out at a time, or a 20th of them; of all else "
     "by the bootstrap over excerpts, 1000 draws: percentiles; for codes and bit rates the value ± 1.96 standard "
     "deviations of the draws, since a draw lacks some excerpts and with them their codes."),
)  # fmt: skip


def page(record: dict[str, Any], heard: Sequence[DecodedStretch]) -> str:
    """Return the document: players, then the figures over all music; below them the details, folded."""
    codecs, music = record["codecs"], record["music"]
    coded = [codec for codec in codecs if codec["space"]["codebooks"]]
    sections = [
        Section("listen", "Listen", _listening(heard)),
        Section("overall", "Fidelity over all music", [_cards(codecs), *_overall(record)]),
        Section("codecs", "The codecs", [tag("div", _codecs(codecs), class_="card")], folded=True),
        Section("classes", "By instrument class", _classes([*codecs, *record["calibration"]]), folded=True),
        Section("codes", "Codes in use", _codes(coded), folded=True),
        Section("speed", "Silence and speed", [tag("div", _speed(record), class_="card")], folded=True),
        Section("left-out", "Left out", [_left_out(music)], folded=True),
        Section("credits", "Music used", _credits(music), folded=True),
        Section("meaning", "Meaning of the figures", [tag("div", _meanings(), class_="card")], folded=True),
    ]
    title = "Codecs: " + ", ".join(codec["label"] for codec in codecs)
    counts = ", ".join(f"{group} {n}" for group, n in music["excerpts"].items() if group in (MIXES, FILES, STEMS))
    lead = f"Measured on {music['about']}; excerpts: {counts}."
    return document(title, [one for one in sections if one.content], lead=lead)


def _cell(figure: dict[str, Any] | None, decimals: int, *, n: bool = False) -> object:
    if figure is None:
        return "none"
    text = _number(figure["value"], decimals)
    span = "" if figure["low"] is None else f"{_number(figure['low'], decimals)} to {_number(figure['high'], decimals)}"
    told = ", ".join(filter(None, [span, f"n = {figure['n']}" if n else ""]))
    return [text, tag("small", told, class_="span")] if told else text


def _number(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # + 0.0: no minus before a zero


def _whole(codec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The group that stands for all: mixes or files, else all stems."""
    group = next(iter(codec["groups"]))
    return group, codec["groups"][group]["figures"]


def _cards(codecs: Sequence[dict[str, Any]]) -> Html:
    cards = []
    for codec in codecs:
        group, figures = _whole(codec)
        first = "fad" if "fad" in figures else "mel"
        note = f"{_FIGURES[first][0]}, {group.lower()}; {_rates(codec, figures)}"
        value = tag("dd", _number(figures[first]["value"], 2), tag("small", note))
        cards.append(tag("div", tag("dt", codec["label"]), value, class_="card"))
    return tag("dl", cards, class_="figures")


def _rates(codec: dict[str, Any], figures: dict[str, Any]) -> str:
    if not codec["space"]["codebooks"]:
        return "continuous latents"
    return f"{codec['bitrate'] / 1000:.2f} kbit/s, {figures['bitrate_entropy']['value'] / 1000:.2f} by entropy"


def _codecs(codecs: Sequence[dict[str, Any]]) -> Html:
    def milliseconds(codec: dict[str, Any], key: str) -> str:
        return f"{1000 * codec['space'][key] / codec['space']['sample_rate']:.1f} ms"

    rows: dict[str, list[object]] = {
        "plugin": [codec["plugin"] for codec in codecs],
        "fingerprint of weights and sizes": [tag("code", codec["fingerprint"]) for codec in codecs],
        "parameters": [
            f"{codec['parameters'] / 1e6:.2f} M" if codec["parameters"] is not None else "not stated"
            for codec in codecs
        ],
        "sample rate": [f"{codec['space']['sample_rate']:,} Hz" for codec in codecs],
        "frames a second": [f"{codec['space']['sample_rate'] / codec['space']['hop']:g}" for codec in codecs],
        "levels x codes": [f"{codec['space']['codebooks']} x {codec['space']['codebook_size']}" for codec in codecs],
        "bit rate, nominal": [
            f"{codec['bitrate'] / 1000:.2f} kbit/s" if codec["space"]["codebooks"] else "no codes" for codec in codecs
        ],
        "lookahead": [milliseconds(codec, "lookahead") for codec in codecs],
        "delay of the decoder": [milliseconds(codec, "delay") for codec in codecs],
    }
    settings = list(dict.fromkeys(key for codec in codecs for key in codec["config"] if key not in _TOLD))
    for key in settings:
        rows[key] = [_setting(codec["config"].get(key)) for codec in codecs]
    head = ["", *(codec["label"] for codec in codecs)]
    return table(head, [[name, *cells] for name, cells in rows.items()], caption="Configuration", style="words")


def _setting(value: object) -> str:
    return "-" if value is None else " x ".join(map(str, value)) if isinstance(value, list) else str(value)


def _overall(record: dict[str, Any]) -> list[Html]:
    codecs = record["codecs"]
    found = []
    for group in codecs[0]["groups"]:
        if group not in (MIXES, FILES, STEMS):
            continue
        each = [(one, one["groups"][group]["figures"]) for one in [*codecs, *record["calibration"]]]
        names = [name for name in _FIGURES if any(name in figures for _, figures in each)]
        head = ["", *([_FIGURES[name][0], " ", tag("small", _FIGURES[name][1])] for name in names)]
        rows = [
            [codec["label"], *(_cell(figures.get(name), _FIGURES[name][2], n=True) for name in names)]
            for codec, figures in each
        ]
        vectors = record["codecs"][0]["groups"][group]["vectors"]
        note = (
            f"n: excerpts behind a figure. FAD: {vectors} vectors on either side; {record['embedding']['provenance']}."
        )
        parts = [table(head, rows, caption=group), tag("p", note, class_="note")]
        if len(codecs) > 1:
            marks = [
                Interval(codec["label"], one["value"], one["low"], one["high"], _STYLES[i % len(_STYLES)])
                for i, (codec, figures) in enumerate(each[: len(codecs)])
                if (one := figures["mel"])["low"] is not None
            ]
            if marks:
                high = 1.05 * max(mark.high for mark in marks)
                parts.append(
                    interval_chart("Mel distance, mean and interval", marks, x="mel distance", low=0, high=high)
                )
            parts.append(_ratios(codecs, record["mel_ratios"][group]))
        found.append(tag("div", parts, class_="card"))
    return found


def _ratios(codecs: Sequence[dict[str, Any]], ratios: Sequence[Sequence[dict[str, Any]]]) -> Html:
    labels = [codec["label"] for codec in codecs]
    rows = [
        [label, *("-" if i == j else _cell(one, 3) for j, one in enumerate(row))]
        for i, (label, row) in enumerate(zip(labels, ratios, strict=True))
    ]
    return table(["", *labels], rows, caption="Mel distance, row over column, on the same excerpts")


def _classes(codecs: Sequence[dict[str, Any]]) -> list[Html]:
    classes = [group for group in codecs[0]["groups"] if group not in (MIXES, FILES, STEMS)]
    if not classes:
        return []
    found = []
    for name in _BY_CLASS:
        title, better, decimals = _FIGURES[name]
        rows = []
        for group in classes:
            each = [codec["groups"][group]["figures"].get(name) for codec in codecs]
            n = next((one["n"] for one in each if one is not None), 0)
            rows.append([group, n, *(_cell(one, decimals) for one in each)])
        head = ["", "excerpts", *(codec["label"] for codec in codecs)]
        found.append(tag("div", table(head, rows, caption=f"{title} ({better})"), class_="card"))
    return found


def _codes(codecs: Sequence[dict[str, Any]]) -> list[Html]:
    found = []
    for codec in codecs:
        size, levels = codec["space"]["codebook_size"], range(1, codec["space"]["codebooks"] + 1)
        for group, one in codec["groups"].items():
            if group not in (MIXES, FILES, STEMS):
                continue
            figures = one["figures"]
            title = f"{codec['label']}, {group.lower()}: {one['frames']:,} frames"
            used, effective = (
                [100 * figures[f"{name}_{q}"]["value"] / size for q in levels] for name in ("codes_used", "perplexity")
            )
            bars = [
                Bars(f"codes used, % of {size}", used, "quiet"),
                Bars("perplexity, % of the same", effective, "accent"),
            ]
            chart = bar_chart(title, [f"level {q}" for q in levels], bars, y="%", top=100.0)
            shown_of_levels = [name for name in _OF_LEVELS if f"{name}_1" in figures]
            rows = [
                [f"level {q}", *(_cell(figures[f"{name}_{q}"], _OF_LEVELS[name][1]) for name in shown_of_levels)]
                for q in levels
            ]
            head = ["", *(_OF_LEVELS[name][0] for name in shown_of_levels)]
            numbers = table(
                head, rows, caption=f"Level by level; {size} equally likely codes: {math.log(size):.2f} nats"
            )
            bits, nominal = figures["bitrate_entropy"], codec["bitrate"]
            span = "" if bits["low"] is None else f" ({bits['low'] / 1000:.2f} to {bits['high'] / 1000:.2f})"
            told = (
                f"Bit rate by entropy {bits['value'] / 1000:.2f} kbit/s{span}, {100 * bits['value'] / nominal:.0f} % "
                f"of the nominal {nominal / 1000:.2f}; {one['excerpts']} excerpts, {one['seconds']:.0f} s."
            )
            if "prediction" in codec:
                learnt = codec["prediction"]
                each = [sum(figures[f"{name}_{q}"]["value"] for q in levels) for name in ("predicted", "frequency")]
                told += (
                    f" Predicted: {each[0]:.2f} nats a frame, {each[1]:.2f} by frequencies alone, after "
                    f"{learnt['steps']} steps on {learnt['seconds'] / 60:.0f} minutes of other music."
                )
            if one["frames"] < 10 * size:
                told += f" {one['frames']:,} frames are few for {size} codes: use and perplexity would rise with more."
            shown = [chart, tag("p", told, class_="note"), tag("details", tag("summary", "Level by level"), numbers)]
            found.append(tag("div", shown, class_="card"))
    return found


def _speed(record: dict[str, Any]) -> list[Html]:
    rows = []
    for codec in record["codecs"]:
        _, figures = _whole(codec)
        streamed = codec["streamed_rtf"]
        rows.append(
            [
                codec["label"],
                f"{_number(codec['silence_db'], 0)} dB",
                f"{_number(codec['silence_after_sound_db'], 0)} dB",
                *(f"{figures[f'{work}_rtf']['value']:.3f}" for work in ("encode", "decode")),
                *(f"{one['encode']:.3f} / {one['decode']:.3f}" for one in streamed.values()),
            ]
        )
    pushes = [f"streamed, frames a push {frames}" for frames in record["codecs"][0]["streamed_rtf"]]
    head = ["", "silence becomes", "silence after sound", "encode at once", "decode at once", *pushes]
    made = record["made_with"]
    note = (
        "RMS of one second, dB re full scale, of digital silence coded and decoded: from the start, and a second after "
        "sound. Times are shares of real time: of wall time at once, of processor time streamed (encode / decode). "
        f"torch {made['torch']}, {made['threads']} thread{'s' if made['threads'] > 1 else ''}; other work on the "
        "machine slows them."
    )
    return [table(head, rows, caption="Silence in, level out; time of work over time of music"),
            tag("p", note, class_="note")]  # fmt: skip


def _listening(heard: Sequence[DecodedStretch]) -> list[Html]:
    if not heard:
        return []
    intro = (
        f"Lossless. The original is set to {LISTENING_LUFS:g} LUFS (or as far as no peak clips), the decoded by the "
        "same gain, so levels compare. Spectrograms: time across, frequency up (40 Hz to 12 kHz), brighter is louder. "
        f"Below, the difference from the original: red is louder, blue softer, by {SPREAD:g} dB or more at the ends of "
        f"the scale; what lies more than {RANGE:g} dB down counts as equally soft."
    )
    return [*folded_after(SHOWN, [_pair(one.for_listening()) for one in heard], "excerpt"),
            tag("p", intro, class_="note")]  # fmt: skip


def _pair(heard: DecodedStretch) -> Html:
    sounds = {"Original": heard.original, **heard.decoded}
    return tag(
        "article",
        tag("h3", heard.group, tag("small", f"{heard.name} · from {heard.start:.1f} s")),
        player_grid([_player(label, *sound, heard) for label, sound in sounds.items()]),
        class_="card take",
    )


def _player(label: str, sound: np.ndarray, rate: int, heard: DecodedStretch) -> Html:
    about = f"{label}, {heard.group}, {heard.name}"
    made = label != "Original"
    difference = _difference(sound, rate, heard) if made else None
    picture = spectrogram_data(sound, rate)
    return player(label, lossless_data(sound, rate), about=about, picture=picture, difference=difference, made=made)


def _difference(sound: np.ndarray, rate: int, heard: DecodedStretch) -> str:
    original, common = heard.original
    same = resample(sound, rate, common)
    n = min(len(same), len(original))
    return difference_data(same[:n], original[:n], common)


def _left_out(music: dict[str, Any]) -> Html:
    rows = [[f"silent ({i})", name] for i, name in enumerate(music["silent"], 1)]
    rows += [[f"failed ({i})", why] for i, why in enumerate(music["failed"], 1)]
    told = f"{len(music['silent'])} silent, {len(music['failed'])} that could not be used."
    if not rows:
        return tag("p", told, class_="note")
    return tag("div", table(["", "name and reason"], rows, caption=told, style="words"), class_="card")


def _credits(music: dict[str, Any]) -> list[Html]:
    if not music["songs"]:
        return []
    rows = [[song["id"], song["source"] or "not stated", song["licence"] or "not stated"] for song in music["songs"]]
    return [tag("div", table(["song", "source", "licence"], rows, caption="Songs", style="words"), class_="card")]


def _meanings() -> Html:
    return tag("div", table(["figure", "meaning"], _MEANINGS, caption="Figure by figure", style="words"))
