"""`accomp models`: which trained models come along, and what is known of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accomp.core.console import say, warn
from accomp.core.errors import UserError
from accomp.core.registry import Registry
from accomp.core.runs.models import card_of, find_model, folder_of
from accomp.core.runs.player import playing_checkpoint


def models(registry: Registry, name: str | None = None, *, as_json: bool = False) -> None:
    """A line for each model, or all that is known of one. Raises what `find_model` does."""
    if name is not None:
        card = _facts(find_model(name, registry))
        say(json.dumps(card, indent=2) if as_json else "\n".join(_lines(card)))
        return
    found = {}
    for component in registry.components("model"):
        try:
            found[component.name] = _facts(folder_of(component)) | {"provider": component.provider}
        except UserError as error:
            warn(f"model {component.name} of {component.provider}: {error}")
    if as_json:
        say(json.dumps(found, indent=2))
        return
    for key, card in found.items():
        say(f"{key}  {card.get('summary', '')}  ({card['megabytes']:.1f} MB; {card['plays']}; {card['provider']})")
    say("others: a run folder of yours, or hub:owner/repo of the Hugging Face hub; `accomp models NAME` shows more")


def _facts(folder: Path) -> dict[str, Any]:
    """The card, and the facts of the checkpoint."""
    checkpoint = playing_checkpoint(folder)
    clock = checkpoint.spec.get("clock") or {}
    frames = checkpoint.space.frame_rate
    plays = f"t_f = {clock['t_f'] / frames:g} s, k = {clock['k']}" if clock else "hears whole clips"
    conditions = sorted(checkpoint.spec.get("conditions", {}))
    size = sum(file["bytes"] for file in checkpoint.files.values())
    return card_of(folder) | {
        "plays": plays,
        "told": conditions,
        "tokenizer": checkpoint.tokenizer,
        "steps": checkpoint.step,
        "megabytes": round(size / 1e6, 2),
        "folder": str(folder),
    }


def _lines(card: dict[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for key, value in card.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{indent}{key:<12} {shown}")
    return lines
