"""Players of the takes: the context, the generated stem, the mix of the two, and the true stem."""

from __future__ import annotations

from typing import Any

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import LISTENING_LUFS, loudness, normalise
from accomp.core.pages.html import Html, tag
from accomp.core.pages.players import folded_after, player, player_grid
from accomp.core.pages.sound import AXES, player_data, spectrogram_data
from accomp.core.report.data import RunData

MOST = 12
"""Takes with players on a page; more would make the page too heavy to open."""
SHOWN = 3
"""Takes that are not folded, so that the answers are near the top."""
QUIET = -50.0
"""LUFS below which a sound keeps its level: raising it would only show its noise."""
_LABELS = {"context": "Context (input of the model)", "stem": "Generated stem", "mix": "Mix of both",
           "true": "True stem"}  # fmt: skip
_ABOUT = (
    f"Every player is set to {LISTENING_LUFS:g} LUFS; in the mix the accompaniment is 5 dB louder than each stem of "
    f"the context. Spectrograms: {AXES}."
)


def listening(data: RunData) -> list[Html]:
    """Return a card for each take, all but the first ones folded, and the count of takes without a card."""
    if not data.takes:
        return [tag("p", "No takes yet: accomp generate.", class_="note")]
    cards = [_take(take, data) for take in data.takes[:MOST]]
    found = [*folded_after(SHOWN, cards, "take"), tag("p", _ABOUT, class_="note")]
    if len(data.takes) > MOST:
        hidden = len(data.takes) - MOST
        found.append(tag("p", f"Further takes, in the run folder under takes/ alone: {hidden}.", class_="note"))
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
        player_grid([_player(take, name) for name in _LABELS]),
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
