"""Trained models by name, accepted wherever a run folder is: shipped with a package, or on the Hugging Face hub.

A model is a run folder with no more than a checkpoint's weights. Its card, CARD, is a JSON object with a "summary" that
describes authors, training music, method and scores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accomp.core.component import Component
from accomp.core.errors import PluginError, UserError
from accomp.core.names import nearest
from accomp.core.registry import Registry

CARD = "model_card.json"
HUB = "hub:"
"""Prefix of the name of a model on the hub: hub:owner/repo or hub:owner/repo@revision."""


def find_model(name: str | Path, registry: Registry) -> Path:
    """Resolve a name to a run folder: a folder, the name of a shipped model, or hub:owner/repo[@revision].

    A folder takes precedence over a model of the same name. Raises UserError, with the known names, for anything else,
    and where the download fails.
    """
    text = str(name)
    if text.startswith(HUB):
        return _fetched(text)
    if Path(text).is_dir():
        return Path(text)
    names = registry.names("model")
    if text in names:
        return folder_of(registry.find("model", text))
    raise UserError(f"neither a run folder nor a model that comes along{nearest(text, names, what='models')} @ {text}")


def folder_of(component: Component) -> Path:
    """Return the folder of a component of kind "model". Raises PluginError where it returns no folder."""
    folder = component.load()()
    if not isinstance(folder, Path) or not folder.is_dir():
        raise PluginError(f"model {component.name!r} of {component.provider} gives no folder: {folder!r}")
    return folder


def card_of(folder: Path) -> dict[str, Any]:
    """Read the card of a model; empty where it has none. Raises UserError for an invalid one."""
    path = folder / CARD
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"unreadable card of a model ({error}) @ {path}") from None
    if not isinstance(card, dict):
        raise UserError(f"the card of a model is no JSON object @ {path}")
    return card


def _fetched(name: str) -> Path:
    repo, _, revision = name.removeprefix(HUB).partition("@")
    if len(repo.split("/")) != 2 or not all(repo.split("/")):
        raise UserError(f"expected hub:owner/repo or hub:owner/repo@revision @ {name}")
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise UserError(f"{name} needs huggingface_hub; run: pip install huggingface_hub") from error
    try:
        patterns = ["checkpoints/*", "losses.jsonl", CARD]
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=patterns))
    except Exception as error:  # errors of the hub and of the network
        raise UserError(f"the hub gives no such model ({' '.join(str(error).split())[:200]}) @ {name}") from error
