"""`accomp import-checkpoint stream-music-gen`: a checkpoint of the streaming paper's public code becomes a run."""

from __future__ import annotations

import math
import pickle
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml
from attrs import frozen
from torch import Tensor

from accomp.core.build import build_model, build_tokenizer, check_combination, space_of
from accomp.core.checkpoint import save_checkpoint
from accomp.core.console import say
from accomp.core.errors import CheckpointError, UserError
from accomp.core.files import hash_file, write_atomic
from accomp.core.instruments import CLASSES
from accomp.core.registry import Registry
from accomp.core.run_folder import open_run
from accomp.core.spec import Spec, load_spec, resolve, structure
from accomp.core.spec_files import toml_text
from accomp.core.streaming.clock import Clock
from accomp.core.structuring import plain
from accomp.core.types import TokenSpace
from accomp.plugins.importers.stream_music_gen_weights import Reference, parts, recognise, translated

CODEC = "tokenizer."
"""What the names of the codec's weights begin with, which its checkpoints hold beside the model's."""
MODEL = ("model._orig_mod.", "model.")
"""What the names of the model's weights begin with, compiled or not."""
STREAMING, CHUNKED = "DecoderTransformerMultiOut", "OnlinePrefixDecoderTransformerMultiOut"
"""Its two classes of models that stream; their weights have the same names."""


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
        int | None, typer.Option("--t-f", help="Frames; needed where it is positive and not told beside the weights.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option("--chunk", help="k, frames, 1 if not chunked; needed where it is not told.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key of SPEC, in TOML.")
    ] = None,
) -> None:
    """Make a run of a checkpoint of stream-music-gen, the public code of the streaming paper (arXiv 2510.22105)."""
    registry: Registry = context.obj
    folder = Path(run or f"runs/{file.stem}")
    import_run(
        file, load_spec(like, registry, settings or ()), folder, registry, scale=attention_scale, t_f=t_f, k=chunk
    )


def import_run(
    file: Path, like: Spec, folder: Path, registry: Registry, *, scale: float = 10.0, t_f: int | None, k: int | None
) -> Spec:
    """Write the run and return its spec: `like`, with the model, conditions, clock and objective of the checkpoint.

    Raises UserError, with all that is wrong at a time: a file that is none of its checkpoints, or damaged; numbers that
    contradict it, or that it needs and does not say; a spec whose codec or sampler it cannot use; a folder in use.
    """
    problems: list[str] = []
    if not (math.isfinite(scale) and scale > 0):
        problems.append(f"expected a positive number, got {scale:g} @ --attention-scale")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        problems.append(f"something is there, and an import replaces nothing; choose another --run @ {folder}")
    found, space = read(file), space_of(like, registry)
    of_file = list(_misfits(found, like, space))
    clock = _clock(found, t_f, k, of_file)
    problems += [f"{problem} @ {file}" for problem in of_file]
    if problems:
        raise UserError(*problems)
    spec = _spec(found, like, clock, folder, registry)
    check_combination(spec, registry)
    tokenizer, model = build_tokenizer(spec, registry), build_model(spec, space, registry)
    model.load_state_dict(translated(found.model, scale))
    open_run(spec)
    save_checkpoint(folder, found.step, model, resolve(spec), tokenizer)
    origin = f"# {file.name} of stream-music-gen, SHA-256 {hash_file(file)}, attention scale {scale:g}\n\n"
    write_atomic(folder / "spec.toml", origin + toml_text(resolve(spec)))
    _tell(found, spec, scale, folder)
    return spec


@frozen(eq=False)
class Found:
    """What a checkpoint file holds.

    Attributes:
        file: where it lies.
        model: the weights.
        step: optimizer steps done; 1 where the file does not say.
        codec: how many weights of its codec are in there.
        told: of its class and arguments, what is said -> by whom -> what.
    """

    file: Path
    model: Reference
    step: int
    codec: int
    told: dict[str, dict[str, Any]]


def read(file: Path) -> Found:
    """Raises CheckpointError, with all that is wrong, for a file that is no checkpoint of one of its models.

    The file is read without running code from it.
    """
    held = _load(file)
    named, codec, others = {}, 0, []
    for name, weight in held["state_dict"].items():
        prefix = next((prefix for prefix in MODEL if name.startswith(prefix)), None)
        if prefix:
            named[name.removeprefix(prefix)] = weight
        elif name.startswith(CODEC):
            codec += 1
        else:
            others.append(name)
    try:
        model = recognise(named | {name: held["state_dict"][name] for name in others})
    except CheckpointError as error:
        raise CheckpointError(*(f"{problem} @ {file}" for problem in error.problems)) from None
    step = held.get("global_step")
    return Found(file, model, step if type(step) is int and step > 0 else 1, codec, _told(file, held))


def _load(file: Path) -> dict[str, Any]:
    """The file's content: a dict with a state_dict of tensors by name."""
    if not file.is_file():
        raise CheckpointError(f"no such file @ {file}")
    try:
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"it holds more than tensors and numbers, and to read that would be to run its code: {_first_line(error)}; "
            f"where you trust it, keep its weights alone: torch.save({{'state_dict': torch.load(FILE, weights_only="
            f"False)['state_dict']}}, NEW) @ {file}"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise CheckpointError(f"not a checkpoint that torch can read: {_first_line(error)} @ {file}") from error
    state = held.get("state_dict") if isinstance(held, dict) else None
    if not isinstance(state, dict) or not all(isinstance(weight, Tensor) for weight in state.values()):
        what = ", ".join(map(str, held)) if isinstance(held, dict) else type(held).__name__
        raise CheckpointError(
            f"expected a dict with the weights under 'state_dict', found {what or 'nothing'} @ {file}"
        )
    return held


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _told(file: Path, held: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is said of the model: its class, and arguments. args.yml is what its training writes beside its files."""
    told: dict[str, dict[str, Any]] = defaultdict(dict)
    parameters = held.get("hyper_parameters")
    for name, value in parameters.items() if isinstance(parameters, Mapping) else ():
        told[str(name)]["hyper_parameters"] = value
    path = file.with_name("args.yml")
    try:
        arguments = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read how the model was trained: {error} @ {path}") from error
    for name, value in arguments.items() if isinstance(arguments, Mapping) else ():
        cls, _, argument = str(name).rpartition(".")
        if cls in (STREAMING, CHUNKED):
            told["cls"][path.name] = cls
        if cls in (STREAMING, CHUNKED, ""):
            told[argument][path.name] = value
    return dict(told)


# --- the run -----------------------------------------------------------------------------------------------------


def _clock(found: Found, t_f: int | None, k: int | None, problems: list[str]) -> Clock | None:
    """The clock of its training, from all who tell; None where it has none, or, with a problem, where it is unclear."""
    if not found.model.streams:
        given = [f"{option} {value}" for option, value in (("--t-f", t_f), ("--chunk", k)) if value is not None]
        problems += [f"{option}: a model of the kind {found.model.kind!r} hears whole clips" for option in given]
        return None
    sizes = found.model.sizes
    t_fs = {"--t-f": t_f, **found.told.get("future_visibility", {})}
    ks = {"--chunk": k, **found.told.get("chunk_length", {})}
    ks |= {f"{cls} in {where}": 1 for where, cls in found.told.get("cls", {}).items() if cls == STREAMING}
    if found.model.kind != "streaming":
        ks["its way to fuse, which chunked models do not have"] = 1
    if "P" in sizes:
        t_fs[f"the {sizes['P']} rows of input_padding"] = 1 - sizes["P"]
        unknown = ""
    else:
        unknown = "it has no input_padding, so t_f > 0, but nothing says how many frames; give --t-f"
    t_f = _agreed("t_f", t_fs, unknown, problems)
    unknown = "its weights do not say whether it is a streaming or a chunked model; give --chunk 1, or its k"
    k = _agreed("k", ks, unknown, problems)
    if t_f is not None and t_f < 1 and "P" not in sizes:
        problems.append(f"t_f is {t_f}, but it has no input_padding, as only models with t_f > 0")
    if k is not None and k < 1:
        problems.append(f"k is {k}; expected at least one frame")
    return None if problems or t_f is None or k is None else Clock(t_f, k)


def _agreed(what: str, told: Mapping[str, Any], unknown: str, problems: list[str]) -> int | None:
    """The number that all who tell one tell; None, with the reason in `problems`, where they differ or none does."""
    given = {where: value for where, value in told.items() if value is not None}
    if odd := [f"{value!r} by {where}" for where, value in given.items() if type(value) is not int]:
        problems.append(f"{what} is {', '.join(odd)}; expected a number of frames")
    elif not given:
        problems.append(unknown)
    elif len(set(given.values())) > 1:
        problems.append(f"{what} is {', but '.join(f'{value} by {where}' for where, value in given.items())}")
    else:
        return next(iter(given.values()))
    return None


def _misfits(found: Found, like: Spec, space: TokenSpace) -> Iterator[str]:
    """What of the spec does not suit the model."""
    model = found.model
    there = (model.sizes["K"], model.codes, model.sizes["E"])
    here = (space.codebooks, space.codebook_size, space.latent_dim)
    if there != here:
        words = "{} levels of {} codes, latents {} wide"
        yield (
            f"it was trained on a codec of {words.format(*there)}, tokenizer {like.tokenizer.plugin!r} of --like has "
            f"{words.format(*here)}; give a spec with the codec that it was trained on"
        )
    for where, seconds in found.told.get("max_duration", {}).items():
        if isinstance(seconds, int | float) and round(seconds * space.frame_rate) != like.train.frames:
            yield (
                f"it was trained on clips of {seconds:g} s by {where}, train.frames of --like is {like.train.frames}, "
                f"{like.train.frames / space.frame_rate:g} s; it must not look further back than it learnt to: "
                f"--set train.frames={round(seconds * space.frame_rate)}"
            )


def _spec(found: Found, like: Spec, clock: Clock | None, folder: Path, registry: Registry) -> Spec:
    """`like` with everything that the checkpoint decides."""
    objectives = {"offline prefix": "prefix_offline", "StemGen": "mlm"}
    objective = objectives.get(found.model.kind, "ar" if clock and clock.k == 1 else "prefix")
    usual = 0.2 if found.model.kind == "StemGen" else 0.0
    drop = next(iter(found.told.get("cfg_drop_prob", {}).values()), usual)
    data = resolve(like)
    data.pop("clock", None)
    data |= parts(found.model) | {
        "objective": {"plugin": objective},
        "conditions": {"context": {"drop": drop}, "instrument": {"classes": len(CLASSES)}},
    }
    if clock:
        data["clock"] = plain(clock)
    data["run"]["folder"] = str(folder)
    data["train"]["steps"] = found.step  # nothing is left to do
    return structure(data, registry, where=f"the spec of {found.file.name}")


def _tell(found: Found, spec: Spec, scale: float, folder: Path) -> None:
    sizes, clock = found.model.sizes, spec.clock
    when = f", t_f = {clock.t_f}, k = {clock.k} frames" if clock else ""
    say(
        f"{found.model.kind}{when}: {sizes['L']} layers, width {sizes['D']}, {sizes['H']} heads of {sizes['d']}, "
        f"{sizes['K']} levels of {found.model.codes} codes @ {found.file}"
    )
    say(f"attention scale {scale:g}: the file does not say it, and another one plays other music (docs/importing.md)")
    if found.codec:
        say(f"left out: {found.codec} weights of its codec; tokenizer {spec.tokenizer.plugin!r} stands in its place")
    say(f"looks back {spec.train.frames} frames (train.frames), which should be the length of its training clips")
    say(f"run: {folder}; its spec: {folder / 'spec.toml'}")
