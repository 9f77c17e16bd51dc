"""The page that compares codecs: one HTML file that loads nothing, made from the record of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accomp.plugin.pages import (
    Html,
    Section,
    document,
    table,
    tag,
)
from accomp.plugins.tokenizers.codec.quality.comparison import STEMS, DecodedStretch
from accomp.plugins.tokenizers.codec.quality.excerpts import FILES, MIXES
from accomp.plugins.tokenizers.codec.quality.page.code_use import code_use
from accomp.plugins.tokenizers.codec.quality.page.configuration import configuration
from accomp.plugins.tokenizers.codec.quality.page.fidelity import by_class, overall
from accomp.plugins.tokenizers.codec.quality.page.figures import FIGURES, MEANINGS, number, whole
from accomp.plugins.tokenizers.codec.quality.page.listening import listening


def page(record: dict[str, Any], heard: Sequence[DecodedStretch]) -> str:
    """Return the document: players, then the figures over all music; below them the details, folded."""
    codecs, music = record["codecs"], record["music"]
    coded = [codec for codec in codecs if codec["space"]["codebooks"]]
    sections = [
        Section("listen", "Listen", listening(heard)),
        Section("overall", "Fidelity over all music", [_cards(codecs), *overall(record)]),
        Section("codecs", "The codecs", [tag("div", configuration(codecs), class_="card")], folded=True),
        Section("classes", "By instrument class", by_class([*codecs, *record["calibration"]]), folded=True),
        Section("codes", "Codes in use", code_use(coded), folded=True),
        Section("speed", "Silence and speed", [tag("div", _speed(record), class_="card")], folded=True),
        Section("left-out", "Left out", [_left_out(music)], folded=True),
        Section("credits", "Music used", _credits(music), folded=True),
        Section("meaning", "Meaning of the figures", [tag("div", _meanings(), class_="card")], folded=True),
    ]
    title = "Codecs: " + ", ".join(codec["label"] for codec in codecs)
    counts = ", ".join(f"{group} {n}" for group, n in music["excerpts"].items() if group in (MIXES, FILES, STEMS))
    lead = f"Measured on {music['about']}; excerpts: {counts}."
    return document(title, [one for one in sections if one.content], lead=lead)


def _cards(codecs: Sequence[dict[str, Any]]) -> Html:
    cards = []
    for codec in codecs:
        group, figures = whole(codec)
        first = "fad" if "fad" in figures else "mel"
        note = f"{FIGURES[first][0]}, {group.lower()}; {_rates(codec, figures)}"
        value = tag("dd", number(figures[first]["value"], 2), tag("small", note))
        cards.append(tag("div", tag("dt", codec["label"]), value, class_="card"))
    return tag("dl", cards, class_="figures")


def _rates(codec: dict[str, Any], figures: dict[str, Any]) -> str:
    if not codec["space"]["codebooks"]:
        return "continuous latents"
    return f"{codec['bitrate'] / 1000:.2f} kbit/s, {figures['bitrate_entropy']['value'] / 1000:.2f} by entropy"


def _speed(record: dict[str, Any]) -> list[Html]:
    rows = []
    for codec in record["codecs"]:
        _, figures = whole(codec)
        streamed = codec["streamed_rtf"]
        rows.append(
            [
                codec["label"],
                f"{number(codec['silence_db'], 0)} dB",
                f"{number(codec['silence_after_sound_db'], 0)} dB",
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


def _left_out(music: dict[str, Any]) -> Html:
    rows = [[f"silent ({i})", name] for i, name in enumerate(music["silent"], 1)]
    rows += [[f"failed ({i})", why] for i, why in enumerate(music["failed"], 1)]
    text = f"{len(music['silent'])} silent, {len(music['failed'])} that could not be used."
    if not rows:
        return tag("p", text, class_="note")
    return tag("div", table(["", "name and reason"], rows, caption=text, style="words"), class_="card")


def _credits(music: dict[str, Any]) -> list[Html]:
    if not music["songs"]:
        return []
    rows = [[song["id"], song["source"] or "not stated", song["licence"] or "not stated"] for song in music["songs"]]
    return [tag("div", table(["song", "source", "licence"], rows, caption="Songs", style="words"), class_="card")]


def _meanings() -> Html:
    return tag("div", table(["figure", "meaning"], MEANINGS, caption="Figure by figure", style="words"))
