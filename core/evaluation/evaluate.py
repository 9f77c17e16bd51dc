"""Evaluation: every metric on the takes and on the anchors, with a record of clips that could not be scored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accomp.core.compute.devices import threads
from accomp.core.console import progress, say, warn
from accomp.core.errors import DataError
from accomp.core.evaluation.anchors import anchor_cells
from accomp.core.evaluation.clip_sets import ClipSet, TakeClip, deaf_cells, take_cell
from accomp.core.evaluation.scoring import Scorer, plain
from accomp.core.evaluation.summary import summary
from accomp.core.evaluation.teacher_forcing import Teacher
from accomp.core.files import read_record, write_atomic
from accomp.core.generation import generate
from accomp.core.generation.take_files import identity_of_takes
from accomp.core.registry import Registry
from accomp.core.runs.player import playing_checkpoint, weights_hash
from accomp.core.spec.schema import Spec
from accomp.core.trouble import raise_trouble

RECORD, CHOSEN = "metrics.json", "metrics.chosen.json"
"""Of the spec's metrics, and of others that were asked for."""
ANCHORS = "anchors"
"""Folder of the audio of the anchors."""


def evaluate(spec: Spec, registry: Registry, run: Path, *, record: str = RECORD) -> None:
    """Score the clip sets of [evaluate], the run's takes and the anchors, with every metric, and write metrics.json.

    record: another name of that file.

    A set that is scored already, from the same audio with the same metrics, is not scored again, so a killed evaluation
    resumes. Raises DataError where there are no takes, or takes of another model or with other settings; WorkError for
    altered takes, and for a metric that returns NaN or Inf.
    """
    if "model" not in spec.evaluate.cells:
        evaluate_anchors(spec, registry, run, record=record)
        return
    played = _takes(spec, run)
    with threads(spec.run.threads):
        takes = take_cell(run, played, Teacher(spec, registry, run, played["takes"]).losses)
        if not all(clip.files for clip in takes.clips if isinstance(clip, TakeClip)):
            warn(
                "there are takes of an earlier accomp, without hashes: changes to them cannot be "
                f"detected; remove {run / 'takes'} and run `accomp generate SPEC` to generate them again"
            )
        deaf = deaf_cells(run, played) if "deaf" in spec.evaluate.cells else []
        cells = [takes, *deaf, *anchor_cells(spec, registry, run / ANCHORS)]
        about = {"checkpoint": played["checkpoint"], "takes": identity_of_takes(played)}
        _judge(spec, registry, run / record, cells, about)


def evaluate_anchors(spec: Spec, registry: Registry, folder: Path, *, record: str = RECORD) -> None:
    """Score the anchors of [evaluate] alone, without a model, and write metrics.json into `folder`.

    Resumes as `evaluate` does. They depend on corpus, pairs, tokenizer, seed, [generate] split, takes, seconds and
    prompt, [evaluate] and the metrics. Raises WorkError for a metric that returns NaN or Inf.
    """
    with threads(spec.run.threads):
        _judge(spec, registry, folder / record, anchor_cells(spec, registry, folder / ANCHORS), {})


def _judge(spec: Spec, registry: Registry, path: Path, cells: Sequence[ClipSet], about: dict[str, Any]) -> None:
    """Score the clip sets and write the record at `path`; PATH.part.json holds those that are scored so far."""
    folder, part = path.parent, path.with_suffix(".part.json")
    scorer = Scorer(spec, registry, Path(spec.evaluate.cache or folder / "cache"))
    earlier = {**_earlier(path), **_earlier(part)}
    done: dict[str, Any] = {}
    with progress("evaluate", sum(len(cell.clips) for cell in cells)) as advance:
        for cell in cells:
            identity = scorer.identity(cell)
            if earlier.get(cell.name, {}).get("identity") == identity:
                done[cell.name] = {**earlier[cell.name], "left_out": plain(cell.left_out)}
                advance(len(cell.clips), note=f"{cell.title}: scored already")
            else:
                done[cell.name] = {"identity": identity, **scorer.cell(cell, advance)}
                write_atomic(part, json.dumps({"cells": done}, allow_nan=False))
    record = {"seed": spec.seed, "loudness": spec.evaluate.loudness, **about, "cells": done}
    write_atomic(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    part.unlink(missing_ok=True)
    for line in summary(record):
        say(line)


def _takes(spec: Spec, run: Path) -> dict[str, Any]:
    """Read takes.json, if its takes equal those that this spec and the run's model would give now."""
    path = run / generate.RECORD
    missing = "no takes to score yet; run `accomp generate SPEC` first"
    record = read_record(path, "run `accomp generate SPEC` again", missing=missing)
    checkpoint = playing_checkpoint(run)
    if record["checkpoint"]["weights"] != weights_hash(checkpoint):
        raise DataError(
            f"the takes were made by the model of step {record['checkpoint']['step']}, the run's best is now that of "
            f"step {checkpoint.step}; run `accomp generate SPEC` again @ {path}"
        )
    if generate.settings_of(record) != (now := generate.settings(spec)):
        raise DataError(
            f"the takes were made with {record['settings']}, the spec says {now}; run `accomp generate SPEC`"
        )
    return record


def _earlier(path: Path) -> dict[str, Any]:
    """Read the results of an earlier evaluation; empty where the file is missing or damaged."""
    try:
        cells: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_trouble(error)
        return {}
    return cells
