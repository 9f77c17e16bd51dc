"""The page of a recording, beside its files: context, stem and mix to listen to, and how far ahead the output was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from accomp.core.pages.charts import Curve, Rule, line_chart
from accomp.core.pages.document import Section, document
from accomp.core.pages.html import Html, table, tag
from accomp.core.pages.players import player, player_grid
from accomp.core.pages.sound import spectrogram_data

LONGEST_PICTURE = 1200.0
"""Seconds of audio of which a spectrogram is drawn; that of a longer one takes memory and shows little."""
CURVES = {
    "sent": ("when sent, over the newest input", "accent"),
    "arrived": ("on arrival, over what was being played", "second"),
}
"""Key of the manifest's `ahead_ms` -> name and style of the curve."""
_ABOUT = "Sample n of all files is simultaneous. The stem is silent where output was missing when it was due."
_ABOUT_CURVES = "Each point is the least of half a second. Below 0, output is late, and silent."


@frozen(eq=False)
class RecordedFile:
    """A file of a recording. Attributes: made: by the model."""

    label: str
    file: str
    sound: np.ndarray
    made: bool = False


def recording_page(manifest: Mapping[str, Any], files: Sequence[RecordedFile], rate: int) -> str:
    """Return the page of a recording at `rate` Hz; it plays the files that lie beside it."""
    sections = [
        Section("listen", "Listen", [player_grid([_player(one, rate) for one in files]), _note(_ABOUT)]),
        Section("ahead", "Ahead by", _ahead(manifest)),
        Section("details", "Details", _details(manifest), folded=True),
    ]
    return document(f"recording of {manifest.get('run', 'a session')}", sections, lead=_lead(manifest, files, rate))


def _player(file: RecordedFile, rate: int) -> Html:
    short = len(file.sound) <= LONGEST_PICTURE * rate
    picture = spectrogram_data(file.sound, rate) if short else None
    return player(file.label, file.file, about=file.label, picture=picture, made=file.made)


def _ahead(manifest: Mapping[str, Any]) -> list[Html]:
    """Return the curves of how far ahead the output was."""
    measured = manifest.get("ahead_ms", {})
    curves = [Curve(name, measured[key], style) for key, (name, style) in CURVES.items() if measured.get(key)]
    if not curves:
        return [_note("Nothing was played.")]
    chart = line_chart("Output ahead by", curves, [Rule("late below", 0.0, "third")], x="time (s)", y="ms")
    return [tag("div", chart, class_="card"), _note(_ABOUT_CURVES)]


def _lead(manifest: Mapping[str, Any], files: Sequence[RecordedFile], rate: int) -> str:
    counts = manifest.get("counts", {})
    parts = [f"{max((len(one.sound) for one in files), default=0) / rate:.1f} s"]
    parts += [f"{name} {manifest[name]}" for name in ("instrument", "seed") if manifest.get(name) is not None]
    parts += [f"{name} {counts[key]:g}" for key, name in (("late", "late chunks"), ("gaps", "gaps")) if key in counts]
    return " · ".join(parts)


def _details(manifest: Mapping[str, Any]) -> Html:
    shown = {name: value for name, value in manifest.items() if name != "ahead_ms"}
    rows = [[name, value if isinstance(value, str) else json.dumps(value)] for name, value in shown.items()]
    return tag("div", table(["", "value"], rows, caption="Manifest", style="words"), class_="card")


def _note(text: str) -> Html:
    return tag("p", text, class_="note")
