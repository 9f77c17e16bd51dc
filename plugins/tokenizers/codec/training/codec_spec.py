"""Codec specs, the input of `accomp codec train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import field, frozen
from attrs import validators as v

from accomp.core.errors import SpecError
from accomp.core.registry import Registry
from accomp.core.spec.parsing import Problems, strict_converter, structure_fields
from accomp.core.spec.toml_files import find_spec, read_toml
from accomp.plugins.tokenizers.codec.training.trainer import CodecTrainSpec, share


@frozen(kw_only=True)
class DataSpec:
    """[data]: a folder of audio files.

    Attributes:
        root: the folder, relative to the working directory.
        train: glob patterns of training music in it.
        shares: with `resident`, share of clips from each pattern; in proportion to length if empty.
        tones: share of synthesized clips: tones, chords, glides, clicks. See tones.tones.
        held_out: patterns of held-out music; must match files unless empty.
        resident: keep all of `train` as 16 bit in the memory of the training device; files of one folder with equal
            length (stems of a song) are then mixed at random. See resident.ResidentClips.
        excerpts, excerpt_seconds: number of measured held-out files, evenly spaced, and the length of each (s).
    """

    root: str
    train: tuple[str, ...] = ("train/**/*.flac", "train/**/*.wav")
    shares: tuple[float, ...] = field(default=())
    tones: float = field(default=0.0, validator=share)
    held_out: tuple[str, ...] = ("validation/**/*.flac", "validation/**/*.wav")
    resident: bool = False
    excerpts: int = field(default=16, validator=v.gt(0))
    excerpt_seconds: float = field(default=5.0, validator=v.ge(0.2))

    @shares.validator
    def _one_each(self, attribute: Any, value: tuple[float, ...]) -> None:
        if value and (len(value) != len(self.train) or min(value) < 0 or not sum(value)):
            raise ValueError(f"shares {list(value)}; expected a number of 0 or more for each of {list(self.train)}")
        if value and not self.resident:
            raise ValueError("shares need resident = true")


@frozen(kw_only=True)
class CodecSpec:
    """A whole codec spec. `config` is the [codec] section as the plugin's own Config, `plugin` its name.

    `train` is the [train] section as `tokenizer.training()` has it; so is `trainer`. With [codec] part = "name",
    `tokenizer` is that entry of the plugin's parts(), and `plugin` has both names.
    """

    plugin: str
    tokenizer: Any
    config: Any
    data: DataSpec
    train: Any
    trainer: Any
    seed: int


@frozen(kw_only=True)
class _Rest:
    data: DataSpec
    seed: int = field(default=0, validator=v.ge(0))


def load_codec_spec(path: Path, registry: Registry) -> CodecSpec:
    """Read a codec spec (or a shipped one by its bare name). Raises SpecError with every problem found."""
    path = find_spec(path)
    data = read_toml(path)
    codec, train = data.pop("codec", None), data.pop("train", None)
    converter = strict_converter()
    found: list[tuple[tuple[str | int, ...], str]] = []

    def section(where: tuple[str, ...], structure: Callable[[], Any]) -> Any:
        try:
            return structure()
        except Problems as problems:
            found.extend(((*where, *at), text) for at, text in problems.found)

    rest = section((), lambda: structure_fields(converter, data, _Rest))
    named = section(("codec",), lambda: _tokenizer(codec, registry))
    config = section(("codec",), lambda: _config(codec, named[1], converter)) if named else None
    kind, trainer = named[1].training() if named else (CodecTrainSpec, None)
    trained = section(("train",), lambda: _train(train, kind, converter)) if named else None
    if found:
        raise SpecError(*(f"{text} @ {path}: {'.'.join(map(str, where)) or 'top level'}" for where, text in found))
    name, tokenizer = named
    return CodecSpec(
        plugin=name, tokenizer=tokenizer, config=config, data=rest.data, train=trained, trainer=trainer, seed=rest.seed
    )


def _train(section: Any, kind: type[CodecTrainSpec], converter: Any) -> Any:
    if not isinstance(section, dict):
        raise Problems([((), "missing: a section [train] with steps = how many")])
    return structure_fields(converter, section, kind)


def _tokenizer(section: Any, registry: Registry) -> tuple[str, Any]:
    if not isinstance(section, dict) or not isinstance(section.get("plugin"), str):
        raise Problems(
            [((), f"missing: a section [codec] with plugin = one of {', '.join(registry.names('tokenizer'))}")]
        )
    name = section["plugin"]
    tokenizer = registry.find("tokenizer", name).load()
    if "part" in section:
        return f"{name} {section['part']}", _part(section["part"], name, tokenizer)
    if not hasattr(tokenizer, "network_of"):
        raise Problems([(("plugin",), f"tokenizer {name!r} cannot be trained here: it offers no network_of(config)")])
    return name, tokenizer


def _part(part: Any, name: str, tokenizer: Any) -> Any:
    parts = tokenizer.parts() if hasattr(tokenizer, "parts") else {}
    if part not in parts:
        there = f"there are: {', '.join(map(repr, parts))}" if parts else "there are none; leave out the key"
        raise Problems([(("part",), f"tokenizer {name!r} has no part {part!r} that can be trained; {there}")])
    return parts[part]


def _config(section: dict[str, Any], tokenizer: Any, converter: Any) -> Any:
    for key in ("weights", "seed"):
        if key in section:
            raise Problems(
                [((key,), "training starts from random weights; the seed is the spec's own, at the top level")]
            )
    keys = {key: value for key, value in section.items() if key not in ("plugin", "part")}
    return structure_fields(converter, keys, tokenizer.Config)
