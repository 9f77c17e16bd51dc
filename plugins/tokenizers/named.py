"""Codecs as a command line names them: a plugin, a plugin with its configuration, or a codec file."""

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
from accomp.core.structuring import Problems, plain, strict_converter, structure_fields
from accomp.plugins.tokenizers.weight_files import is_own, stated

FORMS = '"spectral", \'dac={"weights": "my.pth"}\' or "runs/codec/codec.safetensors", each also as LABEL=...'


@frozen(eq=False)
class NamedCodec:
    """A codec with the name it goes by on a page, its plugin's name and its configuration as plain data."""

    label: str
    plugin: str
    config: dict[str, Any]
    codec: Tokenizer


def named_codecs(texts: Sequence[str], registry: Registry) -> list[NamedCodec]:
    """A codec for each text. A label that is not given is the text itself, or the file's folder and name.

    Raises SpecError for a text that names nothing, and for labels that are equal; what a plugin raises for its weights.
    """
    found = [_named(text, registry) for text in texts]
    labels = [one.label for one in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise SpecError(f"more than one codec is called {', '.join(map(repr, twice))}; give labels: 'LABEL={texts[0]}'")
    return found


def _named(text: str, registry: Registry) -> NamedCodec:
    label, _, rest = text.partition("=")
    if Path(text).is_file() or not rest or rest.lstrip().startswith("{"):
        label, rest = "", text
    if Path(rest).is_file():
        return _of_file(label, Path(rest), registry)
    plugin, _, config = rest.partition("=")
    if plugin not in registry.names("tokenizer") and (plugin != Path(plugin).name or Path(plugin).suffix):
        raise SpecError(f"no such codec file @ {plugin}; expected {FORMS}")
    return NamedCodec(label or rest, plugin, *built(registry, plugin, config or "{}", where=text))


def _of_file(label: str, path: Path, registry: Registry) -> NamedCodec:
    """A file that accomp wrote says for which plugin it is, and of which sizes."""
    if not is_own(path):
        raise SpecError(
            f"the file does not say which tokenizer it is for (no file of accomp) @ {path}; "
            f"name the plugin: 'PLUGIN={json.dumps({'weights': str(path)})}'"
        )
    plugin, sizes = stated(path)
    fields = {one.name for one in attrs.fields(registry.find("tokenizer", plugin).load().Config)}
    values = {name: value for name, value in sizes.items() if name in fields} | {"weights": str(path)}
    shown = f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem
    return NamedCodec(label or shown, plugin, *built(registry, plugin, json.dumps(values), where=str(path)))


def built(registry: Registry, name: str, config: str, where: str = "--config") -> tuple[dict[str, Any], Any]:
    """A tokenizer's Config from JSON, as plain data, and the tokenizer. Raises SpecError for what does not fit."""
    cls = registry.find("tokenizer", name).load()
    try:
        values = json.loads(config)
        if not isinstance(values, dict):
            raise SpecError(f"expected a JSON object of a tokenizer's keys, got {config} @ {where}")
        made = structure_fields(strict_converter(), values, cls.Config)
    except json.JSONDecodeError as error:
        raise SpecError(f"the configuration is not JSON: {error} @ {where}") from error
    except Problems as problems:
        raise SpecError(*(f"{text} @ {where}: {'.'.join(map(str, at))}" for at, text in problems.found)) from problems
    return plain(made), cls(made)
