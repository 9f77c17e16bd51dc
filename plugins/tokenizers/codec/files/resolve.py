"""Codecs by command-line text: a plugin or a codec file, with an optional configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from accomp.core.errors import SpecError
from accomp.core.interfaces import Tokenizer
from accomp.core.registry import Registry
from accomp.core.spec.parsing import Problems, plain, strict_converter, structure_fields
from accomp.plugins.tokenizers.codec.files.weight_files import is_own, stated

FORMS = """a plugin or a codec file, "magnitude" or "runs/codec/codec.safetensors"; with keys of its configuration,
'magnitude={"codebooks": 8}'; with a label, 'LABEL=magnitude' or 'LABEL=FILE={"codebooks": 4}'"""


@frozen(eq=False)
class NamedCodec:
    """A codec with its label, plugin name and configuration as plain data."""

    label: str
    plugin: str
    config: dict[str, Any]
    codec: Tokenizer


def named_codecs(texts: Sequence[str], registry: Registry) -> list[NamedCodec]:
    """Build a codec for each text. The default label is the text, or folder and name of the file.

    Raises SpecError for an unknown name and for duplicate labels; propagates errors of plugins about their weights.
    """
    found = [_named(text, registry) for text in texts]
    labels = [one.label for one in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise SpecError(f"more than one codec is called {', '.join(map(repr, twice))}; give labels: 'LABEL={texts[0]}'")
    return found


def _named(text: str, registry: Registry) -> NamedCodec:
    name, brace, config = text.partition("={")
    values = _json(brace[1:] + config, text) if brace else {}
    label, equals, rest = name.partition("=")
    if not equals or Path(name).is_file():
        label, rest = "", name
    if Path(rest).is_file():
        plugin, stated_values = _of_file(Path(rest), registry)
        values = stated_values | values
        shown = f"{Path(rest).resolve().parent.name}/{Path(rest).stem}"
    elif Path(rest).suffix or len(Path(rest).parts) > 1:
        raise SpecError(f"no such codec file @ {rest}; expected {FORMS}")
    else:
        plugin, shown = rest, rest
    return NamedCodec(label or shown + brace + config, plugin, *_built(registry, plugin, values, text))


def _of_file(path: Path, registry: Registry) -> tuple[str, dict[str, Any]]:
    """Read plugin and sizes from a file of accomp."""
    if not is_own(path):
        raise SpecError(
            f"the file names no tokenizer (not a file of accomp) @ {path}; "
            f"name the plugin: 'PLUGIN={json.dumps({'weights': str(path)})}'"
        )
    plugin, sizes = stated(path)
    fields = {one.name for one in attrs.fields(registry.find("tokenizer", plugin).load().Config)}
    return plugin, {name: value for name, value in sizes.items() if name in fields} | {"weights": str(path)}


def built(registry: Registry, name: str, config: str) -> tuple[dict[str, Any], Any]:
    """Build a tokenizer from a JSON configuration; return both. Raises SpecError for an invalid configuration."""
    return _built(registry, name, _json(config, "--config"), "--config")


def _json(config: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(config)
    except json.JSONDecodeError as error:
        raise SpecError(f"the configuration is not JSON: {error} @ {where}") from error
    if not isinstance(values, dict):
        raise SpecError(f"expected a JSON object of a tokenizer's keys, got {config} @ {where}")
    return values


def _built(registry: Registry, name: str, values: dict[str, Any], where: str) -> tuple[dict[str, Any], Any]:
    cls = registry.find("tokenizer", name).load()
    try:
        config = structure_fields(strict_converter(), values, cls.Config)
    except Problems as problems:
        raise SpecError(*(f"{text} @ {where}: {'.'.join(map(str, at))}" for at, text in problems.found)) from problems
    return plain(config), cls(config)
