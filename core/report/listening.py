"""The page's players: what the model heard, what it played, the two together, and what the musicians played."""

from __future__ import annotations

from typing import Any

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import LISTENING_LUFS, loudness, normalise
from accomp.core.pages.html import Html, tag
from accomp.core.pages.players import player
from accomp.core.pages.sound import player_data, spectrogram_data
from accomp.core.report.data import RunData

MOST = 12
"""Takes with players on a page; more would make it too heavy to open."""
QUIET = -50.0
"""LUFS below which a sound keeps its level: lifting it would only show its noise."""
_LABELS = {"context": "Context: what the model hears", "stem": "Generated stem", "mix": "Context + generated stem",
           "true": "True stem: what was played"}  # fmt: skip


def listening(data: RunData) -> list[Html]:
    """A card for each take; says how many takes have none."""
    if not data.takes:
        return [tag("p", "No takes yet: accomp generate.", class_="note")]
    intro = (
        f"Every player is set to {LISTENING_LUFS:g} LUFS; in the mix the accompaniment stands 5 dB above each stem of "
        "the context. Pictures: time across, frequency up (40 Hz to 12 kHz), brighter is louder."
    )
    found = [tag("p", intro, class_="note"), *(_take(take, data) for take in data.takes[:MOST])]
    if len(data.takes) > MOST:
        hidden = len(data.takes) - MOST
        found.append(tag("p", f"{hidden} more takes lie in the run folder under takes/.", class_="note"))
    return found


def _take(take: dict[str, Any], data: RunData) -> Html:
    facts = [f"{take['start']:.1f} to {take['start'] + take['seconds']:.1f} s", f"stem {take['stem']}"]
    facts.append(f"with {len(take['context_stems'])} other stems")
    if take.get("input") == "random":
        facts.append(f"played to another song: {take['heard']['track']}")
    if prompt := take.get("prompt_seconds"):
        facts.append(f"the first {prompt:g} s were given")
    facts += _scores(take["id"], data)
    return tag(
        "article",
        tag("h3", f"{take['track']}: {take['instrument_name']}", tag("small", " · ".join(facts))),
        tag("div", [_player(take, name) for name in _LABELS], class_="players"),
        class_="card take",
    )


def _scores(id: str, data: RunData) -> list[str]:
    metrics = ((data.metrics or {}).get("cells", {}).get("model") or {"metrics": {}})["metrics"]
    return [
        f"{number} {one['takes'][id][number]:.2f}"
        for one in metrics.values()
        for number in one["best"]
        if number in one["takes"].get(id, {})
    ]


def _player(take: dict[str, Any], name: str) -> Html:
    rate = take["sample_rate"]
    sound = audio.read(take["folder"] / f"{name}.wav", rate)
    label, about = _LABELS[name], f"{_LABELS[name]}, {take['track']}, {take['instrument_name']}"
    if loudness(sound, rate) < QUIET:
        label += " (nearly silent)"
    else:
        sound = normalise(sound, rate)
    return player(
        label, player_data(sound, rate), about=about, picture=spectrogram_data(sound, rate), made=name == "stem"
    )
