"""`accomp codec train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import attrs
import torch
import typer
from torch import Tensor

from accomp.plugin import Advance, CheckpointError, Registry, progress, say, warn, write_atomic
from accomp.plugin.specs import plain
from accomp.plugins.tokenizers.codec.files.weight_files import first_levels, load_network, save_weights
from accomp.plugins.tokenizers.codec.music.clips import Clips, Music
from accomp.plugins.tokenizers.codec.music.resident import ResidentClips
from accomp.plugins.tokenizers.codec.music.tones import WithTones
from accomp.plugins.tokenizers.codec.quality.excerpts import middle_of
from accomp.plugins.tokenizers.codec.quality.measures import measure, table
from accomp.plugins.tokenizers.codec.streams.device import device_named
from accomp.plugins.tokenizers.codec.training.codec_spec import CodecSpec, load_codec_spec
from accomp.plugins.tokenizers.codec.training.trainer import CodecTrainer


def train(
    spec: Annotated[Path, typer.Argument(help="A codec spec: [codec], [data], [train].")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint, the weights and the report.")] = Path(
        "runs/codec"
    ),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.")] = "auto",
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Training time, instead of a number of steps.")
    ] = None,
) -> None:
    """Train a codec on a folder of music; run again with the same --out to resume."""
    train_codec(load_codec_spec(spec, Registry()), out, device_named(device), minutes)


def train_codec(spec: CodecSpec, out: Path, device: torch.device, minutes: float | None = None) -> dict[str, float]:
    """Train, write weights and training.json into `out`, and return the held-out quality.

    Training ends at the last step of the spec or after `minutes`. It resumes from checkpoint.pt in `out`. Raises
    CheckpointError if that belongs to another spec.
    """
    root = Path(spec.data.root)
    clips = _find(root, spec.data.train, spec.train.seconds)
    held_out = _held_out(root, spec)
    _same_spec(out, spec)
    unreadable: dict[Path, str] = {}
    music: Music = clips
    if spec.data.resident:
        rate = spec.tokenizer.space_of(spec.config).sample_rate
        with progress("reading music", len(clips.files)) as advance:
            music = ResidentClips(clips, rate, device, unreadable.__setitem__, advance, spec.data.shares)
    if spec.data.tones:
        music = WithTones(music, spec.data.tones)
    seconds = None if minutes is None else 60 * minutes
    trainer = spec.trainer(_beginning(spec), spec.train, music, spec.seed, device, seconds=seconds)
    trainer.bad_files |= unreadable
    checkpoint = out / "checkpoint.pt"
    if checkpoint.is_file():
        trainer.load(checkpoint)
        of = f"of {spec.train.steps}" if minutes is None else f"({trainer.elapsed:.0f} s of {60 * minutes:.0f})"
        say(f"continuing at step {trainer.step} {of} @ {checkpoint}")
    with progress(f"codec {spec.plugin}", 1000) as advance:
        trainer.note = lambda text: advance(0, note=text)
        _run(trainer, spec, checkpoint, held_out, advance)
    if trainer.bad_files:
        warn(f"{len(trainer.bad_files)} files could not be read while training: {_some(trainer.bad_files)}")
    left = trainer.finish()
    if left:
        say(f"codebooks behind the first {trainer.levels} fitted; share of the rest left after each: {_listed(left)}")
    quality = _measure(trainer, spec, held_out, trainer.levels)
    architecture = spec.tokenizer.architecture(spec.config)
    weights = out / getattr(spec.tokenizer, "file", "codec.safetensors")
    save_weights(weights, trainer.network, spec.plugin, architecture)
    report = {
        "spec": _described(spec),
        "files": len(clips.files),
        "minutes": round(sum(clips.seconds) / 60, 1),
        "steps": trainer.step,
        "training_seconds": round(trainer.elapsed),
        "skipped": {str(path): why for path, why in (clips.skipped | trainer.bad_files).items()},
        "held_out_files": len(held_out),
        "quality": quality,
    } | ({"quality_of_all_codebooks": _measure(trainer, spec, held_out, spec.config.codebooks)} if left else {})
    write_atomic(out / "training.json", json.dumps(report, indent=2) + "\n")
    say(f"weights written @ {weights}")
    if quality:
        say(f"quality on {len(held_out)} held-out excerpts:\n{table(quality)}")
    return quality


def _run(trainer: CodecTrainer, spec: CodecSpec, checkpoint: Path, held_out: list[Tensor], advance: Advance) -> None:
    heard: dict[str, list[float]] = {}
    shown = 0
    for parts in trainer.steps():
        left = {name: parts.pop(name) for name in list(parts) if name.startswith("unexplained")}
        if left:
            say(f"step {trainer.step}: codebooks fitted; variance left after each level: {_numbers(left)}")
        for name, value in parts.items():
            heard.setdefault(name, []).append(value)
        done = round(1000 * trainer.progress)
        advance(done - shown, note=f"loss {parts['total']:.3f}")
        shown = done
        if trainer.step % spec.train.report_every == 0:
            _report(trainer, heard)
        if trainer.step % spec.train.checkpoint_every == 0:
            trainer.save(checkpoint)
        if trainer.step % spec.train.validate_every == 0 and trainer.fitted is not None and held_out and done < 1000:
            say(f"held out, step {trainer.step}: {_numbers(_measure(trainer, spec, held_out, trainer.levels))}")
    if heard:
        _report(trainer, heard)
    if shown:
        trainer.save(checkpoint)


def _report(trainer: CodecTrainer, heard: dict[str, list[float]]) -> None:
    """Log the mean losses since the last report and reset them."""
    means = {name: sum(values) / len(values) for name, values in heard.items()}
    say(f"step {trainer.step} ({trainer.elapsed:.0f} s): {_numbers(means)}")
    heard.clear()


def _measure(trainer: CodecTrainer, spec: CodecSpec, held_out: list[Tensor], codebooks: int) -> dict[str, float]:
    """Measure the held-out quality with a number of leading codebooks."""
    if not held_out:
        return {}
    spec = attrs.evolve(spec, config=attrs.evolve(spec.config, codebooks=codebooks))
    network = _untrained(spec)
    trained = {name: tensor.cpu() for name, tensor in trainer.network.state_dict().items()}
    network.load_state_dict(first_levels(codebooks, trained))
    return measure(spec.tokenizer.trained(spec.config, network), held_out)


def _beginning(spec: CodecSpec) -> torch.nn.Module:
    """Return the initial network. Raises CheckpointError if [train] start has other sizes."""
    if not spec.train.start:
        return _untrained(spec)
    if beginning := getattr(spec.tokenizer, "beginning", None):
        network: torch.nn.Module = beginning(spec.config, spec.train.start, spec.seed)
        return network
    sizes = spec.tokenizer.architecture(spec.config)
    return load_network(lambda: spec.tokenizer.network_of(spec.config), spec.train.start, spec.plugin, sizes, spec.seed)


def _untrained(spec: CodecSpec) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return spec.tokenizer.network_of(spec.config)


def _held_out(root: Path, spec: CodecSpec) -> list[Tensor]:
    if not spec.data.held_out:
        warn("[data] held_out is empty: the codec will not be measured")
        return []
    clips = _find(root, spec.data.held_out, 0.2)
    rate = spec.tokenizer.space_of(spec.config).sample_rate
    return [middle_of(path, rate, spec.data.excerpt_seconds) for path in _spread(clips.files, spec.data.excerpts)]


def _find(root: Path, patterns: list[str] | tuple[str, ...], shortest: float) -> Clips:
    clips = Clips.find(root, patterns, shortest)
    if clips.skipped:
        warn(f"{len(clips.skipped)} files left out: {_some(clips.skipped)}")
    say(f"{len(clips.files)} files, {sum(clips.seconds) / 60:.1f} minutes @ {root}")
    return clips


def _spread(files: tuple[Path, ...], n: int) -> list[Path]:
    n = min(n, len(files))
    return [files[i * len(files) // n] for i in range(n)]


def _same_spec(out: Path, spec: CodecSpec) -> None:
    path = out / "spec.json"
    now = json.dumps(_described(spec), indent=2, sort_keys=True) + "\n"
    if path.is_file() and (out / "checkpoint.pt").is_file() and path.read_text() != now:
        raise CheckpointError(f"the checkpoint belongs to another spec @ {path}; give another --out, or remove it")
    write_atomic(path, now)


def _described(spec: CodecSpec) -> dict[str, Any]:
    codec = {"plugin": spec.plugin, **plain(spec.tokenizer.architecture(spec.config))}
    return {"seed": spec.seed, "codec": codec, "data": plain(spec.data), "train": plain(spec.train)}


def _numbers(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _some(reasons: dict[Path, str]) -> str:
    shown = [f"{path.name}: {why}" for path, why in list(reasons.items())[:5]]
    return "; ".join(shown) + ("; ..." if len(reasons) > len(shown) else "")
