"""The configurations of the codecs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accomp.plugin.pages import (
    Html,
    table,
    tag,
)

_OTHER_ROWS = ("codebooks", "codebook_size", "seed")
"""Keys of a configuration that have rows of their own, or mean nothing for trained weights."""


def configuration(codecs: Sequence[dict[str, Any]]) -> Html:
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
    settings = list(dict.fromkeys(key for codec in codecs for key in codec["config"] if key not in _OTHER_ROWS))
    for key in settings:
        rows[key] = [_setting(codec["config"].get(key)) for codec in codecs]
    head = ["", *(codec["label"] for codec in codecs)]
    return table(head, [[name, *cells] for name, cells in rows.items()], caption="Configuration", style="words")


def _setting(value: object) -> str:
    return "-" if value is None else " x ".join(map(str, value)) if isinstance(value, list) else str(value)
