"""Players of the same songs by every model, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import LISTENING_LUFS, mix_for_listening, normalise
from accomp.core.comparison.entries import Entry
from accomp.core.pages.html import Html, tag
from accomp.core.pages.players import folded_after, player, player_grid
from accomp.core.pages.sound import AXES, player_data, spectrogram_data

PLAYERS = 160
"""On a page; more would make it too heavy to open."""
SHOWN = 1
"""Songs that are not folded, so that the answers are near the top."""
TRUE = "true stem"


def listening(entries: Sequence[Entry]) -> list[Html]:
    """Return a card for each song, all but the first folded, and the count of songs without a card."""
    songs = _songs(entries)
    if not songs:
        return [tag("p", "No takes yet.", class_="note")]
    each = 2 + len([entry for entry in entries if entry.takes])
    shown = dict(list(songs.items())[: max(1, PLAYERS // each)])
    intro = (
        f"Every player is set to {LISTENING_LUFS:g} LUFS; the accompaniment is 5 dB louder than each stem of the "
        f"context. Spectrograms show the accompaniment alone: {AXES}."
    )
    cards = [_song(id, takes) for id, takes in shown.items()]
    found = [*folded_after(SHOWN, cards, "song"), tag("p", intro, class_="note")]
    if len(songs) > len(shown):
        found.append(tag("p", f"Further songs, in the run folders alone: {len(songs) - len(shown)}.", class_="note"))
    return found


def _songs(entries: Sequence[Entry]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Clip id -> entry name -> its take; the clips of most models come first."""
    songs: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        for take in entry.takes:
            songs.setdefault(take["id"], {})[entry.name] = take
    return dict(sorted(songs.items(), key=lambda item: -len(item[1])))


def _song(id: str, takes: Mapping[str, Mapping[str, Any]]) -> Html:
    first = next(iter(takes.values()))
    context, true = (_sound(first, name) for name in ("context", "true"))
    rate, stems = first["sample_rate"], len(first["context_stems"])
    players = [_player(id, "", "Context (input of the models)", normalise(context, rate), context, rate)]
    mixed = mix_for_listening(context, true, rate, stems=stems)
    players.append(_player(id, TRUE, "Context + true stem", mixed, true, rate))
    for name, take in takes.items():
        players.append(_player(id, name, name, _sound(take, "mix"), _sound(take, "stem"), rate, made=True))
    title = f"{first['track']}: {first['instrument_name']}"
    span = f"{first['start']:.1f} to {first['start'] + first['seconds']:.1f} s"
    return tag(
        "article",
        tag("h3", title, tag("small", f"{span} · stem {first['stem']} with {stems} others")),
        player_grid(players),
        class_="card take",
    )


def _player(
    song: str, entry: str, label: str, sound: np.ndarray, pictured: np.ndarray, rate: int, *, made: bool = False
) -> Html:
    """`entry` is empty for the context, which is no part of blind listening."""
    picture = spectrogram_data(normalise(pictured, rate), rate)
    return player(
        label, player_data(sound, rate), about=f"{label}, {song}", picture=picture, preload="none", data_song=song,
        data_entry=entry or None, made=made,
    )  # fmt: skip


def _sound(take: Mapping[str, Any], name: str) -> np.ndarray:
    return audio.read(take["folder"] / f"{name}.wav", take["sample_rate"])
