"""What the work of each stage depends on, as a hash: equal hashes are the same work, so that it is done once.

    store     corpus, tokenizer, rules by which pairs are made, [store]
    training  store, clock, model, conditions, objective, all of [train] that a checkpoint can show, seed, precision
    takes     training, sampler, guidance, [generate]
    scores    takes, metrics
    anchors   corpus, tokenizer, rules of pairs, seed, [generate] but for what a model is given to play to, metrics

Left out is what changes nothing: the run folder, threads, kind of device, logging. Not seen by a hash is what lies
behind a spec: the audio of a corpus, a codec's weights, the code itself. The first two are compared by content when
their stage runs (store, checkpoint and takes remember them); which code made what is recorded (versions.json).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from accomp.core.spec.schema import Spec, resolve

LENGTH = 10
"""Hex digits of a hash: one in a million grids of 56 cells has two equal by chance."""

UNSEEN = ("log_every", "keep", "compile")
"""Keys of [train] that leave no trace in the checkpoint that plays, up to rounding."""

GIVEN = ("input", "metronome", "chart")
"""Keys of [generate] that say what a model is given; the clips that are judged stay the same."""

WHERE = ("cells", "cache")
"""Keys of [evaluate] that say what else is judged in the same run, and where findings are kept."""


@frozen
class Identity:
    """The hashes of one spec's stages."""

    store: str
    training: str
    takes: str
    scores: str
    anchors: str


def identify(spec: Spec, anchors: Iterable[str] = ()) -> Identity:
    """The hashes of a spec; `anchors` are the cells that it is compared with."""
    data = resolve(spec)
    if not data["objective"].get("ahead"):  # as it was before there were such heads
        data["objective"] = _without(data["objective"], "ahead", "ahead_weight")
    store = {**_some(data, "corpus", "tokenizer", "store"), "pairs": spec.pairs.ingested()}
    training = {
        "store": store,
        **_some(data, "pairs", "clock", "conditions", "model", "fuser", "backbone", "objective", "seed"),
        "train": _without(data["train"], *UNSEEN),
        "run": {key: data["run"][key] for key in ("precision", "devices")},
    }
    takes = {"training": training, **_some(data, "sampler", "guidance", "generate"), "runtime": spec.runtime.precision}
    scores = {"takes": takes, **_some(data, "metric"), "evaluate": _without(data["evaluate"], "anchors", *WHERE)}
    judged = {
        **_some(data, "corpus", "tokenizer", "pairs", "seed", "metric"),
        "generate": _without(data["generate"], *GIVEN),
        "evaluate": _without(data["evaluate"], *WHERE),
        "cells": list(anchors),
    }
    return Identity(*(digest(part) for part in (store, training, takes, scores, judged)))


def digest(value: Any) -> str:
    """The hash of JSON-able data; the order of keys means nothing."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:LENGTH]


def _some(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: data[key] for key in keys if key in data}


def _without(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}
