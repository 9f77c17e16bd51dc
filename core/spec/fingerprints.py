"""Hashes of the inputs of each stage: equal hashes mean equal work, which is done once.

    store     corpus, tokenizer, rules by which pairs are made, [store]
    training  store, clock, model, conditions, objective, all of [train] that affects a checkpoint, seed, precision
    takes     training, sampler, guidance, [generate]
    scores    takes, metrics
    anchors   corpus, tokenizer, rules of pairs, seed, [generate] without the model's input, metrics

Keys without effect on results are excluded: the run folder, threads, kind of device, logging. The hashes do not cover
the data behind a spec: the audio of a corpus, a codec's weights, the code itself. The first two are compared by content
when their stage runs (store, checkpoint and takes record them); versions.json records the code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from accomp.core.spec.schema import Spec, resolve

LENGTH = 10
"""Hexadecimal digits of a hash: one in a million grids of 56 cells has a collision."""

UNSEEN = ("log_every", "keep", "compile")
"""Keys of [train] that do not affect the checkpoint that plays, up to rounding."""

GIVEN = ("input", "metronome", "chart")
"""Keys of [generate] that change the model's input, not the clips that are scored."""

WHERE = ("cells", "cache")
"""Keys of [evaluate] for further clip sets and for the cache."""


@frozen
class Identity:
    """Hashes of the stages of one spec."""

    store: str
    training: str
    takes: str
    scores: str
    anchors: str


def identify(spec: Spec, anchors: Iterable[str] = ()) -> Identity:
    """Compute the hashes of a spec; `anchors` are the anchors it is compared with."""
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
    clips = {
        **_some(data, "corpus", "tokenizer", "pairs", "seed", "metric"),
        "generate": _without(data["generate"], *GIVEN),
        "evaluate": _without(data["evaluate"], *WHERE),
        "cells": list(anchors),
    }
    return Identity(*(digest(part) for part in (store, training, takes, scores, clips)))


def digest(value: Any) -> str:
    """Hash JSON-able data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:LENGTH]


def _some(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: data[key] for key in keys if key in data}


def _without(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}
