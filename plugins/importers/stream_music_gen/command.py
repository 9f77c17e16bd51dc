"""`accomp import-checkpoint stream-music-gen`: convert a checkpoint of the streaming paper's public code to a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from accomp.plugin import (
    CheckpointError,
    Clock,
    Registry,
    Tokenizer,
    TokenSpace,
    UserError,
    hash_file,
    say,
    write_atomic,
)
from accomp.plugin.corpora import CLASSES
from accomp.plugin.specs import (
    Spec,
    build_model,
    build_tokenizer,
    check_combination,
    load_spec,
    open_run,
    plain,
    resolve,
    save_checkpoint,
    space_of,
    structure,
    toml_text,
)
from accomp.plugins.importers.stream_music_gen.checkpoint import Found, read
from accomp.plugins.importers.stream_music_gen.clock import clock_of
from accomp.plugins.importers.stream_music_gen.translation import parts, translated

DECIDED = ("model", "fuser", "backbone", "objective", "conditions", "clock", "train.steps", "run.folder")
"""Sections and keys of a spec that are fixed by the checkpoint."""
PUBLISHED_CODEC = "hub:lukewys/stream_music_gen/250121_stemmix_dac_weights_400k_steps.pth"


def stream_music_gen(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .ckpt of stream-music-gen.")],
    like: Annotated[
        str,
        typer.Option(
            "--like", metavar="SPEC", help="A spec, or a shipped one's name: corpus, codec, sampler and so on."
        ),
    ],
    run: Annotated[
        str | None, typer.Option("--run", metavar="FOLDER", help="The new run; runs/FILE otherwise.")
    ] = None,
    attention_scale: Annotated[
        float,
        typer.Option(
            "--attention-scale",
            help="What it multiplied its attention scores with: 10 as the published checkpoints, 0.125 where it was "
            "trained with x-transformers 2.28 or newer. The file does not say.",
        ),
    ] = 10.0,
    t_f: Annotated[
        int | None, typer.Option("--t-f", help="Frames; needed where it is positive and not stored beside the weights.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option("--chunk", help="k, frames, 1 if not chunked; needed where it is not stored.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key of SPEC, in TOML.")
    ] = None,
) -> None:
    """Convert a checkpoint to a run: stream-music-gen, the public code of the streaming paper (arXiv 2510.22105)."""
    registry: Registry = context.obj
    _refuse_decided(settings or ())
    folder = Path(run or f"runs/{file.stem}")
    import_run(
        file, load_spec(like, registry, settings or ()), folder, registry, scale=attention_scale, t_f=t_f, k=chunk
    )


def import_run(
    file: Path, like: Spec, folder: Path, registry: Registry, *, scale: float = 10.0, t_f: int | None, k: int | None
) -> Spec:
    """Write the run and return its spec: `like`, with the model, conditions, clock and objective of the checkpoint.

    Raises UserError with all problems: a foreign or damaged file; contradicting or missing numbers; a spec with an
    incompatible codec or sampler; a folder in use.
    """
    problems: list[str] = []
    if not (math.isfinite(scale) and scale > 0):
        problems.append(f"expected a positive number, got {scale:g} @ --attention-scale")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        problems.append(f"something is there, and an import replaces nothing; choose another --run @ {folder}")
    found, space = read(file), space_of(like, registry)
    of_file: list[str] = []
    clock = clock_of(found, t_f, k, of_file)
    of_file += _misfits(found, like, space, clock)
    problems += [f"{problem} @ {file}" for problem in of_file]
    if problems:
        raise UserError(*problems)
    spec = _spec(found, like, clock, folder, registry)
    check_combination(spec, registry)
    tokenizer, model = _codec(spec, registry), build_model(spec, space, registry)
    model.load_state_dict(translated(found.model, scale))
    open_run(spec)
    save_checkpoint(folder, found.step, model, resolve(spec), tokenizer)
    origin = f"# {file.name} of stream-music-gen, SHA-256 {hash_file(file)}, attention scale {scale:g}\n\n"
    write_atomic(folder / "spec.toml", origin + toml_text(resolve(spec)))
    _tell(found, spec, scale, folder)
    return spec


def _refuse_decided(settings: Sequence[str]) -> None:
    """Raise UserError for each --set of a key that the checkpoint fixes."""
    keys = [text.partition("=")[0].strip() for text in settings]
    decided = [key for key in keys if key.partition(".")[0] in DECIDED or key in DECIDED]
    if decided:
        raise UserError(*(f"the checkpoint decides this key, so nothing can be set @ --set {key}" for key in decided))


def _codec(spec: Spec, registry: Registry) -> Tokenizer:
    """Return the tokenizer of the spec, which must be that of the model. Raises CheckpointError without weights."""
    try:
        return build_tokenizer(spec, registry)
    except CheckpointError as error:
        raise CheckpointError(
            *error.problems,
            "a model plays only with the codec that it was trained on, and that of --like cannot be opened; for the "
            f"published models: --set 'tokenizer.weights=\"{PUBLISHED_CODEC}\"'",
        ) from error


def _misfits(found: Found, like: Spec, space: TokenSpace, clock: Clock | None) -> Iterator[str]:
    """Return mismatches of spec and model. With t_f > 0 its training clips are t_f frames shorter."""
    less = max(0, clock.t_f) if clock else 0
    model = found.model
    there = (model.sizes["K"], model.codes, model.sizes["E"])
    here = (space.codebooks, space.codebook_size, space.latent_dim)
    if there != here:
        words = "{} levels of {} codes, latents {} wide"
        yield (
            f"it was trained on a codec of {words.format(*there)}, tokenizer {like.tokenizer.plugin!r} of --like has "
            f"{words.format(*here)}; give a spec with the codec that it was trained on"
        )
    for where, seconds in found.settings.get("max_duration", {}).items():
        if not isinstance(seconds, int | float) or not math.isfinite(seconds):
            yield f"max_duration is {seconds!r} by {where}; expected a number of seconds"
            continue
        window = round(seconds * space.frame_rate) - less
        if window < 1:
            yield f"clips of {seconds:g} s by {where} leave no frame to a model that looks {less} frames ahead"
        elif window != like.train.frames:
            first = f", of which its t_f takes {less} frames" if less else ""
            yield (
                f"it was trained on clips of {seconds:g} s by {where}{first}; train.frames of --like is "
                f"{like.train.frames}: it must not look further back than it learnt to: --set train.frames={window}"
            )


def _spec(found: Found, like: Spec, clock: Clock | None, folder: Path, registry: Registry) -> Spec:
    """Return `like` with everything fixed by the checkpoint."""
    objectives = {"offline prefix": "prefix_offline", "StemGen": "mlm"}
    objective = objectives.get(found.model.kind, "ar" if clock and clock.k == 1 else "prefix")
    usual = 0.2 if found.model.kind == "StemGen" else 0.0
    drop = next(iter(found.settings.get("cfg_drop_prob", {}).values()), usual)
    data = resolve(like)
    data.pop("clock", None)
    data |= parts(found.model) | {
        "objective": {"plugin": objective},
        "conditions": {"context": {"drop": drop}, "instrument": {"classes": len(CLASSES)}},
    }
    if clock:
        data["clock"] = plain(clock)
    data["run"]["folder"] = str(folder)
    data["train"]["steps"] = found.step  # training is complete
    return structure(data, registry, where=f"the spec of {found.file.name}")


def _tell(found: Found, spec: Spec, scale: float, folder: Path) -> None:
    sizes, clock = found.model.sizes, spec.clock
    when = f", t_f = {clock.t_f}, k = {clock.k} frames" if clock else ""
    say(
        f"{found.model.kind}{when}: {sizes['L']} layers, width {sizes['D']}, {sizes['H']} heads of {sizes['d']}, "
        f"{sizes['K']} levels of {found.model.codes} codes @ {found.file}"
    )
    say(
        f"attention scale {scale:g}: the file does not say it, and another one plays other music "
        "(docs/guides/importing.md)"
    )
    say("its training normalised every clip to -16 dB before the codec; here levels stay: play at about that level")
    if found.codec:
        say(f"left out: {found.codec} weights of its codec; tokenizer {spec.tokenizer.plugin!r} stands in its place")
    say(f"looks back {spec.train.frames} frames (train.frames), which should be the length of its training clips")
    say(f"run: {folder}; its spec: {folder / 'spec.toml'}")
