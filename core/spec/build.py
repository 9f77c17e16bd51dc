"""Construction of the parts that a spec names, and rejection of incompatible ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from accomp.core.diffusion.block_layout import BlockLayout
from accomp.core.diffusion.latent_model import LatentModel
from accomp.core.errors import CombinationError, DataError, UserError
from accomp.core.interfaces import CausalSampler, Corpus, DenoisedSampler, MaskedSampler, Metric, Objective, Tokenizer
from accomp.core.model.chunks import chunk_starts
from accomp.core.model.conditions import Conditions
from accomp.core.model.guidance import conditions_of
from accomp.core.model.model import Model
from accomp.core.model.sequence import DelayPattern
from accomp.core.names import nearest
from accomp.core.registry import Registry
from accomp.core.spec.limits import MOST_PARAMETERS, shown
from accomp.core.spec.parsing import Problems, strict_converter, structure_fields
from accomp.core.spec.schema import Spec
from accomp.core.spec.sections import PluginSpec
from accomp.core.spec.toml_files import override
from accomp.core.types import TokenSpace

Made = TypeVar("Made")


def build_corpus(spec: Spec, registry: Registry) -> Corpus:
    """Build the corpus plugin of a spec."""
    return _build("corpus", spec.corpus, registry)


def corpus_at(root: Path, name: str, settings: Iterable[str], registry: Registry) -> Corpus:
    """Build a corpus plugin without a spec, from its folder and "KEY=VALUE" settings of its Config, in TOML.

    Raises PluginError for an unknown name, DataError with every invalid key.
    """
    cls = registry.find("corpus", name).load()
    values: dict[str, Any] = {"root": str(root)}
    override(values, settings)
    try:
        return cls(structure_fields(strict_converter(), values, cls.Config))
    except Problems as problems:
        raise DataError(*(f"{text} @ --config {'.'.join(map(str, path))}" for path, text in problems.found)) from None


def build_tokenizer(spec: Spec, registry: Registry) -> Tokenizer:
    """Build the tokenizer plugin of a spec, with its weights."""
    return _build("tokenizer", spec.tokenizer, registry)


def build_model(spec: Spec, space: TokenSpace, registry: Registry) -> Model:
    """Build the untrained model of a spec for the codes or latents of `space`, on the CPU.

    Its weights depend on `spec.seed` alone; the global generator is left unchanged.
    """
    with _own_randomness(spec.seed):
        fuser = _build("fuser", spec.fuser, registry, space=space, width=spec.model.width)
        backbone = _build("backbone", spec.backbone, registry, space=space, width=spec.model.width)
        if not space.continuous:
            return Model(fuser, backbone, space, spec.clock, spec.conditions, spec.model.width)
        assert spec.clock is not None, "check_combination gives latents a clock"
        regime = spec.model.regime or "block_causal"
        latent = LatentModel(fuser, backbone, space, spec.clock, spec.conditions, spec.model.width, regime)
        return cast(Model, latent)  # parts for models of codes alone have checked the space


def build_objective(spec: Spec, space: TokenSpace, registry: Registry) -> Objective:
    """Build the objective plugin of a spec."""
    return _build("objective", spec.objective, registry, space=space)


def build_sampler(spec: Spec, space: TokenSpace, registry: Registry) -> CausalSampler | MaskedSampler | DenoisedSampler:
    """Build the sampler plugin of a spec."""
    return _build("sampler", spec.sampler, registry, space=space)


def build_metrics(spec: Spec, space: TokenSpace, registry: Registry) -> dict[str, Metric]:
    """Build the metric plugins of a spec, by name, in its order."""
    return {metric.plugin: _build("metric", metric, registry, space=space) for metric in spec.metric}


def space_of(spec: Spec, registry: Registry) -> TokenSpace:
    """Return the token space of a spec's tokenizer, without loading its weights."""
    return registry.find("tokenizer", spec.tokenizer.plugin).load().space_of(spec.tokenizer.config)


def check_combination(spec: Spec, registry: Registry) -> None:
    """Check that the parts of a spec fit together, without loading weights. Raises CombinationError with every
    problem.
    """
    space = space_of(spec, registry)
    problems = [*_disagreements(spec, registry), *_of_other_worlds(spec, space, registry)]
    problems += [problem for problem in _misfits(spec, space, registry) if problem not in problems]
    if problems:
        raise CombinationError(*problems)


def _disagreements(spec: Spec, registry: Registry) -> Iterator[str]:
    """List contradictions between the attributes of the classes."""
    objective = registry.find("objective", spec.objective.plugin).load()
    sampler = registry.find("sampler", spec.sampler.plugin).load()
    if objective.decoding != sampler.decoding:
        yield (
            f"objective {spec.objective.plugin!r} trains a model that decodes {objective.decoding!r}, sampler "
            f"{spec.sampler.plugin!r} samples {sampler.decoding!r}; choose a {objective.decoding!r} sampler"
        )
    if objective.clocked and spec.clock is None:
        yield f"objective {spec.objective.plugin!r} trains a model that plays by a clock; add a section [clock]"
    if not objective.clocked and spec.clock is not None:
        yield (
            f"objective {spec.objective.plugin!r} trains a model of whole clips: no t_f or k applies to it; "
            f"remove the section [clock], or choose an objective with a clock"
        )
    if spec.clock is not None and spec.clock.k > 1 and objective.clocked and not objective.chunked:
        yield (
            f"clock.k = {spec.clock.k}, but objective {spec.objective.plugin!r} trains a model that emits frame by "
            f"frame; set k = 1 or choose a chunked objective"
        )
    if spec.generate.prompt:
        space = space_of(spec, registry)
        frames = space.frames(round(spec.generate.seconds * space.sample_rate))
        if spec.generate.prompt >= frames:
            yield (
                f"generate.prompt = {spec.generate.prompt} frames leaves nothing to play of generate.seconds = "
                f"{spec.generate.seconds:g}, {frames} frames; shorten the one or lengthen the other"
            )
    yield from unguidable(spec.guidance, spec.conditions)
    for name in spec.conditions.heard:
        if not getattr(objective, "hears", False):
            able = [row.name for row in registry.components("objective") if getattr(row.load(), "hears", False)]
            yield (
                f"[conditions] {name}.heard = {spec.conditions.timelines[name].heard:g}, but objective "
                f"{spec.objective.plugin!r} trains a model without an ear; choose {' or '.join(sorted(able))}, or "
                f"remove it"
            )
    for name, told_by in spec.generate.timelines_from.items():
        if told_by == "follow" and name not in spec.conditions.timelines:
            yield (
                f'generate.{name} = "follow", but the model takes no {name}; train one with [conditions] {name} = '
                f"{{ drop = 0.2 }}, or remove it"
            )
        elif told_by == "follow" and spec.clock is None:
            yield f'generate.{name} = "follow" goes with a model that plays by a clock; this one needs whole clips'


def _of_other_worlds(spec: Spec, space: TokenSpace, registry: Registry) -> Iterator[str]:
    """List parts for codes among parts for latents, and vice versa."""
    objective = registry.find("objective", spec.objective.plugin).load()
    sampler = registry.find("sampler", spec.sampler.plugin).load()
    if space.continuous and objective.decoding != "denoised":
        yield (
            f"tokenizer {spec.tokenizer.plugin!r} has continuous latents, no codebooks; objective "
            f"{spec.objective.plugin!r} needs codes: choose objective 'rectified_flow', or a tokenizer of codes"
        )
    if spec.model.regime and not space.continuous:
        yield f"model.regime = {spec.model.regime!r} is of models of continuous latents, not of codes; remove it"
    plus = sampler.decoding == "denoised" and getattr(spec.sampler.config, "plus", False)
    if plus and not spec.guidance:
        yield "sampler.plus = true (CFG++) does nothing without [guidance]; name what guides, or remove it"
    if space.continuous and spec.clock is not None:
        k, frames = spec.clock.k, spec.train.frames
        if frames % k:
            less = frames - frames % k
            near = f"{less} or {less + k}" if less else f"{k}"
            yield f"train.frames = {frames} is no whole number of blocks of clock.k = {k} frames; {near} would do"
        if rest := spec.generate.prompt % k:
            less = spec.generate.prompt - rest
            yield (
                f"generate.prompt = {spec.generate.prompt} frames is no whole number of blocks of clock.k = {k}; "
                f"{less} or {less + k} would do"
            )


def unguidable(guidance: Iterable[str], conditions: Conditions) -> Iterator[str]:
    """Yield a line for each name by which a model trained with `conditions` cannot be guided."""
    shares, guided = conditions.shares(), list[str]()
    for names in guidance:
        for name in sorted(conditions_of(names)):
            if name in guided:
                yield f"guidance.{names}: {name!r} is guided by another scale, too"
            elif name not in shares:
                yield f"guidance.{names}: there is no such condition{nearest(name, shares, what='conditions')}"
            elif not shares[name]:
                yield (
                    f"guidance.{names} compares with a model that does without {name!r}, which this one never learned "
                    f"to; train with conditions.{name}.drop > 0, or remove it"
                )
            guided.append(name)


def _misfits(spec: Spec, space: TokenSpace, registry: Registry) -> Iterator[str]:
    """List the problems that show only when the parts are built with their settings."""
    if spec.clock is not None and space.continuous:
        blocks = BlockLayout(spec.clock)
        if not blocks.blocks(spec.train.frames):
            yield (
                f"train.frames = {spec.train.frames}: at clock.t_f = {spec.clock.t_f}, k = {spec.clock.k} no block "
                f"fits in a clip that short; at least {max(spec.clock.k, spec.clock.t_f)} frames are needed"
            )
    elif spec.clock is not None:
        layout = DelayPattern(spec.clock, space.codebooks)
        ahead = getattr(spec.objective.config, "ahead", 0)
        if isinstance(ahead, int) and ahead >= spec.train.frames:
            yield (
                f"objective.ahead = {ahead} steps leads beyond every clip of train.frames = {spec.train.frames}; lower "
                f"it, or take longer clips"
            )

        def fits(frames: int) -> bool:
            return layout.steps(frames) >= space.codebooks and bool(chunk_starts(layout, frames))

        if not fits(spec.train.frames):
            least = next(frames for frames in itertools.count(spec.train.frames) if fits(frames))
            yield (
                f"train.frames = {spec.train.frames}: at clock.t_f = {spec.clock.t_f}, k = {spec.clock.k} and "
                f"{space.codebooks} codebooks a clip that short has levels with nothing to predict or no whole chunk; "
                f"at least {least} frames are needed"
            )
    size = 0
    for kind, section in (("fuser", spec.fuser), ("backbone", spec.backbone)):
        try:
            part = _sketch(kind, section, registry, space=space, width=spec.model.width)
        except UserError as error:
            yield from error.problems
            continue
        size += sum(weight.numel() for weight in part.parameters()) if isinstance(part, torch.nn.Module) else 0
        width = getattr(part, "embed_width", None)
        if kind == "fuser" and not (isinstance(width, int) and width > 0):
            yield f"fuser {section.plugin!r} says embed_width = {width!r}; expected the width De of output embeddings"
    if size > MOST_PARAMETERS:
        yield (
            f"the model would have {shown(size)} parameters; expected at most {MOST_PARAMETERS:,}: lower model.width = "
            f"{spec.model.width} or the sizes of [backbone]"
        )
    for kind, section in (("objective", spec.objective), ("sampler", spec.sampler)):
        try:
            _build(kind, section, registry, space=space)
        except UserError as error:
            yield from error.problems


def _build(kind: str, section: PluginSpec, registry: Registry, **given: Any) -> Any:
    return registry.find(kind, section.plugin).load()(config=section.config, **given)


def _sketch(kind: str, section: PluginSpec, registry: Registry, **given: Any) -> Any:
    """Build a module without memory for its weights, where that is possible."""
    with _own_randomness(0):
        return without_memory(lambda: _build(kind, section, registry, **given))


def without_memory(make: Callable[[], Made]) -> Made:
    """Call `make` with tensors that have no memory; with real ones where it reads their values."""
    try:
        with torch.device("meta"):
            return make()
    except (NotImplementedError, RuntimeError):  # reading values fails without memory; a genuine error is raised again
        return make()


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed the CPU's global generator within the block and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**63)
        yield
