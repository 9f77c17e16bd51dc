"""A spec file: one experiment, written in TOML, read into frozen attrs objects. Every mistake is told at once.

How values are checked is core/structuring.py; this page says what a spec may contain. Paths in a spec are relative to
the folder in which the command runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import attrs
import cattrs
from attrs import field, frozen
from attrs import validators as v

from accomp.core.conditions import INSTRUMENT, TIMELINES
from accomp.core.diffusion.kinds import Regime
from accomp.core.durations import Frames, seconds, to_frames
from accomp.core.errors import SpecError, UserError
from accomp.core.instruments import CLASSES
from accomp.core.limits import at_most, too_large
from accomp.core.pairs import PairRules
from accomp.core.registry import Registry, nearest
from accomp.core.runner_spec import RunnerSpec
from accomp.core.spec_files import find_spec, override, read_toml
from accomp.core.streaming.clock import Clock
from accomp.core.streaming.runtime import Runtime
from accomp.core.structuring import Problems, Where, plain, strict_converter, structure_fields
from accomp.core.types import TokenSpace

_share = v.and_(v.ge(0.0), v.le(1.0))


@frozen
class PluginSpec:
    """A section `{plugin = NAME, ...}`: the name, and the rest of the section as that plugin's Config."""

    plugin: str
    config: Any


def _distinct(_: Any, attribute: attrs.Attribute, sections: tuple[PluginSpec, ...]) -> None:
    names = [section.plugin for section in sections]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(map(repr, twice))} is named twice; one {attribute.name} of a kind, please")


@frozen
class RunSpec:
    """Where and how to compute; nothing here changes what is computed, up to rounding.

    Attributes:
        folder: the run folder: resolved spec, versions, checkpoints, takes, metrics, report.
        accelerator: the kind of device, in Lightning Fabric's words.
        devices: how many of them.
        strategy: how several share the training: "ddp", each holds all weights, or "fsdp", each holds a part of them;
            "auto" is "ddp" for several. Checkpoints are the same for all.
        precision: of weights ("true") or of arithmetic on them ("mixed"), in Lightning Fabric's words.
        threads: CPU threads of torch; where absent, its own choice, and one for playing.
        logger: where training curves go.
    """

    folder: str
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = field(default=1, validator=[v.ge(1), v.le(4096)])
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"] = "32-true"
    threads: int | None = field(default=None, validator=v.optional([v.ge(1), v.le(1024)]))
    logger: Literal["tensorboard", "wandb", "none"] = "tensorboard"


@frozen
class StoreSpec:
    """The token store.

    Attributes:
        path: Zarr folder that ingest fills and training reads, or a place in an object store: "s3://bucket/name".
        submixes: input mixtures made per target stem, each from another random choice of the other stems.
        seed: of those choices. Apart from the experiment's seed, so that experiments with many seeds share one store.
    """

    path: str = field(validator=v.min_len(1))
    submixes: int = field(default=2, validator=v.ge(1))
    seed: int = field(default=0, validator=v.ge(0))


@frozen
class ContextCondition:
    """The audio that is accompanied. `drop`: share of training clips in which the model does not hear it."""

    drop: float = field(default=0.0, validator=_share)


def _some_classes(_: Any, attribute: attrs.Attribute, classes: int | tuple[str, ...]) -> None:
    if isinstance(classes, int):
        if classes < 1:
            raise ValueError(f"{attribute.name} is {classes}; expected at least 1, or a list of their names")
    elif not classes or len(set(classes)) < len(classes) or not all(name.strip() for name in classes):
        raise ValueError(f"{attribute.name} is {list(classes)}; expected names, at least one, none of them twice")


@frozen
class LabelCondition:
    """A class label.

    Attributes:
        classes: the names of its classes, in the order of their numbers; or how many there are, which says enough for
            `instrument` (core/conditions.py has the names).
        drop: share of training clips in which it is withheld, beside those that have none.
    """

    classes: int | tuple[str, ...] = field(validator=_some_classes)
    drop: float = field(default=0.0, validator=_share)

    @property
    def count(self) -> int:
        """How many classes there are."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)


@frozen
class TimelineCondition:
    """A timeline (core/timelines.py).

    Attributes:
        drop: share of training clips in which it is withheld, beside those without.
        detail: share of the others in which its detail is: of a metronome the bars, so that a model plays to beats
            alone as well, which is all that can be followed in a sound.
    """

    drop: float = field(default=0.0, validator=_share)
    detail: float = field(default=0.0, validator=_share)


@frozen
class Conditions:
    """What the model is told.

    [conditions]
    context = { drop = 0.2 }
    instrument = { classes = 18, drop = 0.1 }
    genre = { classes = ["rock", "jazz"], drop = 0.1 }      # any label that the corpus gives
    metronome = { drop = 0.15 }                             # beat and bar of the frame that is played
    chart = { drop = 0.3 }                                  # its chord
    """

    context: ContextCondition = ContextCondition()
    labels: dict[str, LabelCondition] = field(factory=dict)
    timelines: dict[str, TimelineCondition] = field(factory=dict)

    def shares(self) -> dict[str, float]:
        """Condition -> share of training clips in which it is withheld."""
        labels = {name: label.drop for name, label in self.labels.items()}
        timelines = {name: timeline.drop for name, timeline in self.timelines.items()}
        return {"context": self.context.drop, **labels, **timelines}

    def all_told(self) -> Conditions:
        """The same, with nothing withheld."""
        labels = {name: attrs.evolve(label, drop=0.0) for name, label in self.labels.items()}
        return Conditions(ContextCondition(), labels, {name: TimelineCondition() for name in self.timelines})


@frozen
class ModelSpec:
    """The sequence model.

    Attributes:
        width: D.
        regime: of models of continuous latents, what was played as they remember it (core/diffusion/regimes.py):
            "block_causal", each block encoded once; or "enc_dec", the last frames encoded anew for every block, where
            all of them hear one another. "block_causal" where absent; models of codes have none.
    """

    width: int = field(validator=[v.ge(1), v.le(65_536)])
    regime: Regime | None = None


@frozen
class TrainSpec:
    """Training. The learning rate warms up linearly and falls along a cosine to `final_lr` at `steps`.

    Attributes:
        steps: optimizer steps.
        minutes: time of training, earlier sittings and validation included, after which it ends though steps are left;
            the learning rate then falls with the time. How many steps that is depends on the machine.
        batch: clips a forward pass (per device).
        lr: peak learning rate of AdamW.
        frames: length of a clip, in frames or as "10s".
        start: whose weights training begins with: a run folder, or a name of `accomp models`; "": random ones.
        final_lr: learning rate at the end.
        warmup: steps of linear warm-up.
        clip: largest gradient norm.
        weight_decay: of AdamW.
        accumulate: forward passes an optimizer step, whose loss is the mean of theirs.
        log_every: steps between log lines.
        validate_every: steps between validations.
        validation_batches: batches a validation.
        checkpoint_every: steps between checkpoints.
        keep: how many checkpoints are kept, the best one on validation beside them.
        compile: whether loss and gradients are compiled to one graph, which takes a minute or so at the start; "auto":
            on a CUDA device that can.
    """

    steps: int = field(validator=v.ge(1), metadata=at_most(10**9))
    batch: int = field(validator=v.ge(1))
    lr: float = field(validator=v.gt(0.0))
    frames: Frames = field(validator=v.ge(1))
    start: str = ""
    minutes: float | None = field(default=None, validator=v.optional(v.gt(0.0)))
    final_lr: float = field(default=1e-5, validator=v.ge(0.0))
    warmup: int = field(default=0, validator=v.ge(0), metadata=at_most(10**9))
    clip: float = field(default=1.0, validator=v.gt(0.0))
    weight_decay: float = field(default=0.0, validator=v.ge(0.0))
    accumulate: int = field(default=1, validator=v.ge(1))
    log_every: int = field(default=10, validator=v.ge(1), metadata=at_most(10**9))
    validate_every: int = field(default=500, validator=v.ge(1), metadata=at_most(10**9))
    validation_batches: int = field(default=8, validator=v.ge(1), metadata=at_most(10**9))
    checkpoint_every: int = field(default=500, validator=v.ge(1), metadata=at_most(10**9))
    keep: int = field(default=2, validator=v.ge(1), metadata=at_most(10**9))
    compile: Literal["auto", "on", "off"] = "auto"


ToldBy = Literal["annotations", "follow", "off"]


@frozen
class GenerateSpec:
    """Which accompaniments are made for judging.

    Attributes:
        split: of the corpus.
        takes: how many.
        seconds: length of each (s).
        input: what the model hears: the context that its stem is judged with ("paired"), or that of another song's take
            ("random"), which shows how much of a score it owes to listening.
        prompt: frames, or "2s": so much of the true stem is given as the beginning of what the model plays. It goes on
            from there, and only what comes after is judged.
        deaf: whether each take is played a second time to another song's context, with all else the same, and judged
            beside the first with the context it should have heard: what a score owes to listening.
        metronome, chart: where a model that takes it has this timeline from: the song's "annotations", what is heard in
            the input by then ("follow"), or nowhere ("off").
    """

    split: str = "test"
    takes: int = field(default=8, validator=v.ge(1))
    seconds: float = field(default=10.0, validator=v.gt(0.0))
    input: Literal["paired", "random"] = "paired"
    prompt: Frames = field(default=0, validator=v.ge(0))
    deaf: bool = False
    metronome: ToldBy = "annotations"
    chart: ToldBy = "annotations"

    @property
    def told_by(self) -> dict[str, ToldBy]:
        """Timeline -> where it comes from."""
        return {"metronome": self.metronome, "chart": self.chart}


CellName = Literal["model", "deaf", "true_stem", "random_pairing", "codec"]
CELLS: tuple[CellName, ...] = get_args(CellName)
OF_TAKES: tuple[CellName, ...] = ("model", "deaf")
"""Cells of what a model played; the others are anchors."""


def _each_once(_: Any, attribute: attrs.Attribute, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{attribute.name} is {list(names)}; expected at least one of {', '.join(CELLS)}, none twice")


@frozen
class EvaluateSpec:
    """How takes are judged, beside what else.

    Attributes:
        cells: what is judged: the model's takes, and anchors that say what a number means (core/runner/anchors.py).
        anchors: clips of held-out songs for each of the anchors, the takes' own among them.
        loudness: LUFS at which metrics hear context, stem and true stem, each by itself; "as_played" leaves them be.
        cache: folder of what metrics found out, for other runs to use again; where absent, one in the run folder.
    """

    cells: tuple[CellName, ...] = field(default=CELLS, validator=_each_once)
    anchors: int = field(default=24, validator=v.ge(1))
    loudness: float | Literal["as_played"] = -18.0
    cache: str | None = None


def _different_mixtures(spec: Any, _: attrs.Attribute, pairs: PairRules) -> None:
    if pairs.inputs == "all" and spec.store.submixes > 1:
        raise ValueError(
            f'inputs is "all": every target has one mixture, store.submixes is {spec.store.submixes}; set it to 1'
        )


@frozen
class Spec:
    """One experiment. Sections named after a kind of plugin hold `plugin = NAME` and that plugin's own keys.

    Attributes:
        clock: what a prediction may see; absent where the objective's models hear whole clips.
        pairs: which pairs of mixture and target are learned from.
        runtime: whether the model is compiled to play, and in which precision it does.
        runner: on which processes or machines the songs of an ingest are tokenized, and the cells of a grid run.
        guidance: condition -> scale, how much closer than in training the model heeds it when it plays
            (core/guidance.py); 1 alone is as trained.
        seed: decides every random choice: data order, initial weights, dropped conditions, sampling.
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
    conditions: Conditions = Conditions()
    pairs: PairRules = field(default=PairRules(), validator=_different_mixtures)
    generate: GenerateSpec = GenerateSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    runtime: Runtime = field(default=Runtime())
    runner: RunnerSpec = field(default=RunnerSpec())
    seed: int = field(default=0, validator=v.ge(0))


def load_spec(path: str | Path, registry: Registry, overrides: Iterable[str] = ()) -> Spec:
    """Read a spec file; `overrides` are "dotted.key=TOML value" and win over the file.

    `path` may also be the bare name of a shipped spec ("quickstart"). Raises SpecError with every problem found.
    """
    path = find_spec(path)
    data = read_toml(path)
    override(data, overrides)
    return structure(data, registry, where=str(path))


def resolve(spec: Spec) -> dict[str, Any]:
    """The spec as plain dicts, lists, strings and numbers, complete with every default.

    `structure(resolve(spec), registry)` equals `spec`. Absent values are left out, since TOML cannot write them.
    """
    data = plain(spec)
    for kind in PLUGIN_SECTIONS:
        data[kind] = _flat(data[kind])
    data["metric"] = [_flat(section) for section in data["metric"]]
    told = data["conditions"]
    data["conditions"] = {"context": told["context"], **told["labels"], **told["timelines"]}
    return data


def structure(data: Mapping[str, Any], registry: Registry, *, where: str = "spec") -> Spec:
    """A Spec from plain data, as a file holds it or `resolve` gives it; `where` names the source in errors.

    Raises SpecError with every problem found, each with its path.
    """
    run = data.get("run", {})
    if isinstance(run, Mapping):
        data = {**data, "run": {"folder": f"runs/{Path(where).stem}", **run}}
    try:
        spec = structure_fields(_converter(registry, data.get("tokenizer")), data, Spec)
        if found := list(too_large(spec)):
            raise Problems(found)
    except Problems as problems:
        raise SpecError(*(f"{text} @ {where}{dotted(path)}" for path, text in problems.found)) from None
    return spec


def token_space(section: Any, registry: Registry) -> TokenSpace | None:
    """The codes of a tokenizer's section, plain data; None where it is wrong, or its plugin does not state them."""
    try:
        tokenizer = _structure_plugin(_converter(registry, section), registry, "tokenizer", section)
    except Problems:
        return None
    cls = registry.find("tokenizer", tokenizer.plugin).load()
    return cls.space_of(tokenizer.config) if hasattr(cls, "space_of") else None


def _converter(registry: Registry, tokenizer: Any) -> cattrs.Converter:
    """Knows plugin sections, conditions and durations; the raw section of the tokenizer says how long a frame is."""
    converter = strict_converter()

    def plugin(value: Any, kind: Any) -> PluginSpec:
        return _structure_plugin(converter, registry, get_args(kind)[1], value)

    @cache
    def space() -> TokenSpace | None:
        """None where the tokenizer's section is itself wrong, which is reported there."""
        try:
            section = _structure_plugin(converter, registry, "tokenizer", tokenizer)
        except Problems:
            return None
        cls = registry.find("tokenizer", section.plugin).load()
        if not hasattr(cls, "space_of"):
            raise ValueError(f"tokenizer {section.plugin!r} does not state its frame rate; give a number of frames")
        return cls.space_of(section.config)

    def frames(value: Any, _: Any) -> int:
        if not isinstance(value, str):
            return converter.structure(value, int)
        try:
            seconds(value)
            known = space()
            return to_frames(value, known) if known else 1
        except (ValueError, UserError) as error:
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
    """The table is flat: `context`, timelines by their kind, and every other key is a label.

    Their order means nothing: it is that of names.
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
        ((INSTRUMENT, "classes", number), f"no instrument is called {name!r}{nearest(name, CLASSES)}")
        for number, name in enumerate(condition.classes)
        if name not in CLASSES
    ]


def _flat(section: Mapping[str, Any]) -> dict[str, Any]:
    return {"plugin": section["plugin"], **section["config"]}


def dotted(path: Where) -> str:
    """("sampler", "steps", 1) -> ": sampler.steps[1]", to stand behind the name of a file; "" for the file itself."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f": {text.removeprefix('.')}" if text else ""
