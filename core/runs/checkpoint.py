"""Checkpoints: one folder each, written atomically, with a description of the training behind the weights.

RUN/checkpoints/step_000500/
    weights.safetensors   the model
    checkpoint.json       spec, token space, tokenizer, versions; size and hash of the other files
    training.pt           optimizer, data cursor, random state: needed to resume training only
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import torch
from attrs import frozen
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from accomp.core.errors import CheckpointError
from accomp.core.files import folder_atomic, hash_file
from accomp.core.interfaces import CausalSampler, DenoisedSampler, MaskedSampler, Objective, Tokenizer
from accomp.core.model.model import Model
from accomp.core.registry import Registry
from accomp.core.runs.checkpoint_folders import checkpoint_folder, checkpoint_steps
from accomp.core.runs.choice import drop_choice
from accomp.core.spec.build import build_model, build_objective, build_sampler, build_tokenizer
from accomp.core.spec.schema import Spec, structure
from accomp.core.spec.sections import TrainSpec
from accomp.core.types import TokenSpace

FORMAT = 1
WEIGHTS, TRAINING, CARD = "weights.safetensors", "training.pt", "checkpoint.json"


@frozen
class Checkpoint:
    """The description of a checkpoint.

    Attributes:
        folder: its folder.
        step: optimizer steps done.
        spec: resolved spec, as `spec.resolve` returns it.
        space: code format that the model was trained on.
        tokenizer: name of the tokenizer.
        fingerprint: hash of the tokenizer's configuration and weights.
        versions: versions of the libraries that wrote it.
        files: file name -> {"bytes", "sha256"}.
        minutes: training time until then.
    """

    folder: Path
    step: int
    spec: dict[str, Any]
    space: TokenSpace
    tokenizer: str
    fingerprint: str
    versions: dict[str, str]
    files: dict[str, dict[str, Any]]
    minutes: float = 0.0

    def finishes(self, train: TrainSpec) -> bool:
        """Test whether training ends at this checkpoint, by steps or by time."""
        return self.step >= train.steps or (train.minutes is not None and self.minutes >= train.minutes)


@frozen
class TrainedModel:
    """A trained model in evaluation mode, with tokenizer, objective and sampler."""

    spec: Spec
    tokenizer: Tokenizer
    model: Model
    objective: Objective
    sampler: CausalSampler | MaskedSampler | DenoisedSampler
    step: int


def save_checkpoint(
    run: Path,
    step: int,
    model: Model,
    spec: Mapping[str, Any],
    tokenizer: Tokenizer,
    training: Mapping[str, Any] | None = None,
    *,
    weights: Mapping[str, Tensor] | None = None,
    minutes: float = 0.0,
) -> Path:
    """Write the checkpoint of a step into a run folder and return its folder. A choice made before is dropped.

    spec: as `spec.resolve` returns it. training: state needed to resume, of tensors, numbers, strings, lists and dicts
    (reading it back executes no code from the file). weights: the state_dict, where the model itself holds only a shard
    of it. minutes: training time so far.
    """
    folder = checkpoint_folder(run, step)
    with folder_atomic(folder) as work:
        tensors = model.state_dict() if weights is None else weights
        save_file({name: weight.contiguous() for name, weight in tensors.items()}, work / WEIGHTS)
        if training is not None:
            with (work / TRAINING).open("wb") as file:  # opened by Python, whose error names a full disk
                torch.save(dict(training), file)
        card = {
            "format": FORMAT,
            "step": step,
            "minutes": minutes,
            "space": attrs.asdict(model.space),
            "tokenizer": tokenizer.name,
            "fingerprint": tokenizer.fingerprint,
            "versions": {name: metadata.version(name) for name in ("accomp", "torch", "safetensors")},
            "files": {p.name: {"bytes": p.stat().st_size, "sha256": hash_file(p)} for p in sorted(work.iterdir())},
            "spec": dict(spec),
        }
        (work / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    drop_choice(run)
    return folder


def latest_checkpoint(run: Path) -> Checkpoint | None:
    """Return the newest checkpoint of a run folder, None where there is none. Raises CheckpointError for a
    damaged one.
    """
    folders = [checkpoint_folder(run, step) for step in checkpoint_steps(run)]
    if not folders:
        return None
    try:
        return read_checkpoint(folders[-1])
    except CheckpointError as error:
        way_on = f"from {folders[-2].name}" if len(folders) > 1 else "from the beginning"
        raise CheckpointError(*error.problems, f"remove {folders[-1]} to go on {way_on}") from error


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the description of a checkpoint. Raises CheckpointError where it or one of its files is missing."""
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise CheckpointError(
                f"checkpoint of format {card['format']}, written by accomp {card['versions']['accomp']}; this one "
                f"reads format {FORMAT} @ {path}"
            )
        checkpoint = Checkpoint(
            folder, card["step"], card["spec"], TokenSpace(**card["space"]),
            card["tokenizer"], card["fingerprint"], card["versions"], card["files"],
            card.get("minutes", 0.0),
        )  # fmt: skip
    except OSError as error:
        raise CheckpointError(f"no checkpoint: {error.strerror} @ {path}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"not a checkpoint's description: {type(error).__name__}: {error} @ {path}") from error
    problems = []
    for name, file in checkpoint.files.items():
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        if size is None:
            problems.append(f"a file is missing @ {folder / name}")
        elif size != file["bytes"]:
            problems.append(f"truncated or altered: {size} bytes, {file['bytes']} were written @ {folder / name}")
    if problems:
        raise CheckpointError(*problems)
    return checkpoint


def load_weights(checkpoint: Checkpoint, model: Model, optional: str = "") -> bool:
    """Load a checkpoint's weights into a model. Raises CheckpointError, with every mismatch, where they do not fit.

    optional: a part that only one of the two may have: the model then keeps its own, or does without the checkpoint's.
    Returns whether that was so.
    """
    if checkpoint.space != model.space:
        raise CheckpointError(
            f"trained on the codes of {checkpoint.tokenizer}: {checkpoint.space} @ {checkpoint.folder}",
            f"but the model is for {model.space}; use the tokenizer of the checkpoint, or train anew",
        )
    path = _intact(checkpoint, WEIGHTS)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read weights: {error} @ {path}") from error
    expected = model.state_dict()
    here, there = (
        {name for name in names if optional and name.startswith(f"{optional}.")} for names in (expected, weights)
    )
    if different := bool(here) != bool(there):
        weights = {name: weight for name, weight in weights.items() if name not in there}
        weights |= {name: expected[name] for name in here}
    problems = [f"weight {name!r} is missing @ {path}" for name in expected if name not in weights]
    problems += [f"weight {name!r} is not one of the model's @ {path}" for name in weights if name not in expected]
    problems += [
        f"weight {name!r} has shape {tuple(weight.shape)}, the model's {tuple(expected[name].shape)} @ {path}"
        for name, weight in weights.items()
        if name in expected and weight.shape != expected[name].shape
    ]
    if problems:
        raise CheckpointError(*problems, "the model was built from another spec than the checkpoint's")
    if bad := [name for name, weight in weights.items() if weight.is_floating_point() and not weight.isfinite().all()]:
        more = f" and {len(bad) - 1} more" if bad[1:] else ""
        raise CheckpointError(
            f"the weights hold NaN or Inf: {bad[0]}{more}; remove the checkpoint to go on from an earlier one @ {path}"
        )
    model.load_state_dict(weights)
    return different


def load_training(checkpoint: Checkpoint) -> dict[str, Any]:
    """Load the training state, on the CPU. Raises CheckpointError where there is none."""
    if TRAINING not in checkpoint.files:
        raise CheckpointError(f"a checkpoint of weights only: training cannot be resumed from it @ {checkpoint.folder}")
    path = _intact(checkpoint, TRAINING)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"cannot read the training state: {error} @ {path}") from error


def prune_checkpoints(run: Path, keep: int, spare: Collection[int] = ()) -> None:
    """Remove all but the newest `keep` checkpoints of a run folder; those of the steps in `spare` stay."""
    for step in checkpoint_steps(run)[:-keep]:
        if step not in spare:
            shutil.rmtree(checkpoint_folder(run, step))


def load_run(
    run: Path, registry: Registry, device: torch.device | str = "cpu", step: int | None = None
) -> TrainedModel:
    """Load the trained model of a run folder, from its newest checkpoint or that of a `step`, without training data.

    Raises CheckpointError where there is none, and where the tokenizer differs from that of the training.
    """
    checkpoint = latest_checkpoint(run) if step is None else read_checkpoint(checkpoint_folder(run, step))
    if checkpoint is None:
        raise CheckpointError(f"no checkpoint yet; train first: accomp train SPEC @ {run / 'checkpoints'}")
    spec = structure(checkpoint.spec, registry, where=str(checkpoint.folder / CARD))
    tokenizer = build_tokenizer(spec, registry)
    if tokenizer.fingerprint != checkpoint.fingerprint:
        raise CheckpointError(
            f"trained with tokenizer {checkpoint.tokenizer} {checkpoint.fingerprint}, {checkpoint.space} "
            f"@ {checkpoint.folder}",
            f"but its spec now gives {tokenizer.name} {tokenizer.fingerprint}, {tokenizer.space}; put the codec's "
            f"weights back that it was trained with",
        )
    model = build_model(spec, tokenizer.space, registry)
    load_weights(checkpoint, model)
    return TrainedModel(
        spec=spec,
        tokenizer=tokenizer.to(device),
        model=model.to(device).eval(),
        objective=build_objective(spec, tokenizer.space, registry),
        sampler=build_sampler(spec, tokenizer.space, registry),
        step=checkpoint.step,
    )


def _intact(checkpoint: Checkpoint, name: str) -> Path:
    """Return the path of a file. Raises CheckpointError where its hash differs from the recorded one."""
    path = checkpoint.folder / name
    if not path.is_file() or hash_file(path) != checkpoint.files[name]["sha256"]:
        raise CheckpointError(f"the file is not what was written: its hash differs; restore it from a copy @ {path}")
    return path
