"""Spec files: one experiment in TOML, read into frozen attrs objects. All mistakes are reported at once.

core/spec/parsing.py validates the values; this module defines the sections. Paths in a spec are relative to the working
directory of the command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import attrs
import cattrs
from attrs import field, frozen
from attrs import validators as v

from accomp.core.clock import Clock
from accomp.core.errors import SpecError, UserError
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition, TimelineCondition
from accomp.core.music.instruments import CLASSES
from accomp.core.music.labels import INSTRUMENT, TIMELINES
from accomp.core.names import nearest_class
from accomp.core.registry import Registry
from accomp.core.spec.durations import Frames, seconds, to_frames
from accomp.core.spec.limits import too_large
from accomp.core.spec.pairs import PairRules
from accomp.core.spec.parsing import Problems, Where, plain, strict_converter, structure_fields
from accomp.core.spec.runner import RunnerSpec
from accomp.core.spec.runtime import Runtime
from accomp.core.spec.sections import EvaluateSpec, GenerateSpec, ModelSpec, PluginSpec, RunSpec, StoreSpec, TrainSpec
from accomp.core.spec.toml_files import find_spec, override, read_toml
from accomp.core.types import TokenSpace


def _distinct(_: Any, attribute: attrs.Attribute, sections: tuple[PluginSpec, ...]) -> None:
    names = [section.plugin for section in sections]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(map(repr, twice))} is named twice; one {attribute.name} of a kind, please")


def _different_mixtures(spec: Any, _: attrs.Attribute, pairs: PairRules) -> None:
    if pairs.inputs == "all" and spec.store.submixes > 1:
        raise ValueError(
            f'inputs is "all": every target has one mixture, store.submixes is {spec.store.submixes}; set it to 1'
        )


@frozen
class Spec:
    """One experiment. Sections named after a kind of plugin hold `plugin = NAME` and that plugin's own keys.

    Attributes:
        clock: future visibility and chunk size; absent where the objective's models need whole clips.
        pairs: rules for training pairs of mixture and target.
        runtime: compilation and precision of the model when it plays.
        runner: processes or machines for the songs of an ingest and the cells of a grid.
        guidance: condition, or several joined by "+", -> scale of classifier-free guidance (core/model/guidance.py). A
            single scale of 1 changes nothing; several of 1 add up, and are not the trained model.
        seed: seed of every random choice: data order, initial weights, dropped conditions, sampling.
    """

    corpus: Annotated[PluginSpec, "corpus"]
    tokenizer: Annotated[PluginSpec, "tokenizer"]
    fuser: Annotated[PluginSpec, "fuser"]
    backbone: Annotated[PluginSpec, "backbone"]
    objective: Annotated[PluginSpec, "objective"]
    sampler: Annotated[PluginSpec, "sampler"]
    store: StoreSpec
    model: ModelSpec
    train: TrainSpec
    run: RunSpec
    clock: Clock | None = None
    guidance: dict[str, float] = field(factory=dict)
    metric: tuple[Annotated[PluginSpec, "metric"], ...] = field(default=(), validator=_distinct)
    conditions: Conditions = field(default=Conditions())
    pairs: PairRules = field(default=PairRules(), validator=_different_mixtures)
    generate: GenerateSpec = field(default=GenerateSpec())
    evaluate: EvaluateSpec = field(default=EvaluateSpec())
    runtime: Runtime = field(default=Runtime())
    runner: RunnerSpec = field(default=RunnerSpec())
    seed: int = field(default=0, validator=v.ge(0))


def load_spec(path: str | Path, registry: Registry, overrides: Iterable[str] = (), where: str = "--set") -> Spec:
    """Read a spec file; `overrides` are "dotted.key=TOML value" and take precedence over the file.

    `path` may also be the bare name of a shipped spec ("quickstart"). `where`: place of the overrides in errors. Raises
    SpecError with every problem found.
    """
    path = find_spec(path)
    data = read_toml(path)
    override(data, overrides, where)
    return structure(data, registry, where=str(path))


def resolve(spec: Spec) -> dict[str, Any]:
    """Convert a spec to plain dicts, lists, strings and numbers, complete with every default.

    `structure(resolve(spec), registry)` equals `spec`. Absent values are left out, since TOML has no null.
    """
    data = plain(spec)
    for kind in PLUGIN_SECTIONS:
        data[kind] = _flat(data[kind])
    data["metric"] = [_flat(section) for section in data["metric"]]
    table = data["conditions"]
    data["conditions"] = {"context": table["context"], **table["labels"], **table["timelines"]}
    return data


def structure(data: Mapping[str, Any], registry: Registry, *, where: str = "spec") -> Spec:
    """Build a Spec from plain data, from a file or from `resolve`; `where` names the source in errors.

    Raises SpecError with every problem found, each with its path.
    """
    run = data.get("run", {})
    if isinstance(run, Mapping):
        data = {**data, "run": {"folder": f"runs/{Path(where).stem}", **run}}
    unreadable: list[str] = []
    spec, found = None, []
    try:
        spec = structure_fields(_converter(registry, data.get("tokenizer"), unreadable), data, Spec)
        found = list(too_large(spec))
    except Problems as problems:
        found = problems.found
    found = [*((("tokenizer",), text) for text in unreadable), *found]
    if found or spec is None:
        raise SpecError(*(f"{text} @ {where}{dotted(path)}" for path, text in found))
    return spec


def token_space(section: Any, registry: Registry) -> TokenSpace | None:
    """Return the token space of a tokenizer's section; None where it is invalid or its plugin does not state the
    space.
    """
    try:
        tokenizer = _structure_plugin(_converter(registry, section), registry, "tokenizer", section)
    except Problems:
        return None
    cls = registry.find("tokenizer", tokenizer.plugin).load()
    return cls.space_of(tokenizer.config) if hasattr(cls, "space_of") else None


def _converter(registry: Registry, tokenizer: Any, unreadable: list[str] | None = None) -> cattrs.Converter:
    """Create a converter for plugin sections, conditions and durations; the tokenizer's section gives the frame
    length. What keeps that from being read, such as damaged weights, is appended to `unreadable`, once.
    """
    converter = strict_converter()

    def plugin(value: Any, kind: Any) -> PluginSpec:
        return _structure_plugin(converter, registry, get_args(kind)[1], value)

    @cache
    def space() -> TokenSpace | None:
        """Return None where the tokenizer's section is itself invalid or unreadable, which is reported there."""
        try:
            section = _structure_plugin(converter, registry, "tokenizer", tokenizer)
        except Problems:
            return None
        cls = registry.find("tokenizer", section.plugin).load()
        if not hasattr(cls, "space_of"):
            raise ValueError(f"tokenizer {section.plugin!r} does not state its frame rate; give a number of frames")
        try:
            return cls.space_of(section.config)
        except UserError as error:
            if unreadable is not None:
                unreadable.extend(error.problems)
            return None

    def frames(value: Any, _: Any) -> int:
        if not isinstance(value, str):
            return converter.structure(value, int)
        try:
            seconds(value)
            known = space()
            return to_frames(value, known) if known else 1
        except ValueError as error:
            raise Problems([((), str(error))]) from error

    def clock(value: Any, cls: type) -> Clock:
        return structure_fields(converter, value, cls, {"t_f": Frames, "k": Frames})

    converter.register_structure_hook_func(_is_plugin_section, plugin)
    converter.register_structure_hook_func(lambda kind: kind == Frames, frames)
    converter.register_structure_hook(Clock, clock)
    converter.register_structure_hook(Conditions, lambda value, _: _structure_conditions(converter, value))
    return converter


def _is_plugin_section(kind: Any) -> bool:
    return get_origin(kind) is Annotated and get_args(kind)[0] is PluginSpec


PLUGIN_SECTIONS = tuple(
    a.name for a in attrs.fields(attrs.resolve_types(Spec, include_extras=True)) if _is_plugin_section(a.type)
)
"""Sections of a spec that name one plugin; the section's name is the plugin's kind."""


def _structure_plugin(converter: cattrs.Converter, registry: Registry, kind: str, value: Any) -> PluginSpec:
    known = f"known: {', '.join(registry.names(kind)) or 'none'}"
    if not isinstance(value, Mapping) or "plugin" not in value:
        raise Problems([((), f"missing key 'plugin', the name of a {kind}; {known}")])
    name = converter.structure(value["plugin"], str)
    try:
        component = registry.find(kind, name)
        cls = component.load()
    except UserError as error:
        raise Problems([((), problem) for problem in error.problems]) from error
    config = getattr(cls, "Config", None)
    if config is None or not attrs.has(config):
        raise Problems([((), f"{kind} {name!r} of {component.provider} has no attrs class Config")])
    rest = {key: item for key, item in value.items() if key != "plugin"}
    return PluginSpec(name, structure_fields(converter, rest, config))


def _structure_conditions(converter: cattrs.Converter, value: Any) -> Conditions:
    """Structure the flat table: `context`, timelines by their kind, and every other key is a label.

    The result is ordered by name.
    """
    if not isinstance(value, Mapping):
        return structure_fields(converter, value, Conditions)
    parts: dict[str, Any] = {"context": ContextCondition()}
    found: list[tuple[Where, str]] = []
    for name, section in value.items():
        try:
            kind = TimelineCondition if name in TIMELINES else ContextCondition if name == "context" else LabelCondition
            parts[name] = structure_fields(converter, section, kind)
            found += _unknown_instruments(parts[name]) if name == INSTRUMENT else []
        except Problems as problems:
            found += [((name, *path), text) for path, text in problems.found]
    if found:
        raise Problems(found)
    timelines = {name: parts.pop(name) for name in TIMELINES if name in parts}
    return Conditions(parts.pop("context"), dict(sorted(parts.items())), timelines)


def _unknown_instruments(condition: LabelCondition) -> list[tuple[Where, str]]:
    if isinstance(condition.classes, int):
        too_many = condition.classes > len(CLASSES)
        return [((INSTRUMENT, "classes"), f"there are {len(CLASSES)} instrument classes")] if too_many else []
    return [
        ((INSTRUMENT, "classes", number), f"no instrument is called {name!r}{nearest_class(name)}")
        for number, name in enumerate(condition.classes)
        if name not in CLASSES
    ]


def _flat(section: Mapping[str, Any]) -> dict[str, Any]:
    return {"plugin": section["plugin"], **section["config"]}


def dotted(path: Where) -> str:
    """Format ("sampler", "steps", 1) as ": sampler.steps[1]", for use after a file name; "" for the file itself."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f": {text.removeprefix('.')}" if text else ""
