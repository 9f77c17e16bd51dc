"""Broken plugins: model."""

import tempfile
from pathlib import Path

from broken_plugins.register import breaks


@breaks("model", "gives a folder: it gives 'here'")
def nowhere():
    return "here"


@breaks("model", "its card has a summary: summary is None")
def unknown():
    return Path(tempfile.mkdtemp())


@breaks("model", "its newest checkpoint loads, with the tokenizer it was trained with")
def untrained():
    folder = Path(tempfile.mkdtemp())
    (folder / "model_card.json").write_text('{"summary": "none"}')
    return folder
