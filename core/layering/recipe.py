"""All inputs of a stem, and its id, which follows from them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen

ROOT = "root"
"""The parent of the first layers: the context alone."""


@frozen
class Recipe:
    """Inputs of a stem; the same recipe gives the same stem.

    Attributes:
        parent: id of the node whose song is accompanied, or ROOT.
        title: as requested, usually the instrument.
        conditions: label -> class given to the model; withheld ones are missing.
        seed, session: of the random numbers; the session follows from the parent and the variation.
        variation: its number among equal requests, from 0.
        sampler: its section of a spec.
        guidance: condition -> scale.
        weights: SHA-256 of the model's.
        objective, clock: their sections of the model's spec; models of whole clips have no clock.
        window: frames of the model's context, or of a clip.
        tokenizer: fingerprint of the codec.
    """

    parent: str
    title: str
    conditions: Mapping[str, str]
    seed: int
    session: int
    variation: int
    sampler: Mapping[str, Any]
    guidance: Mapping[str, float]
    weights: str
    objective: Mapping[str, Any]
    clock: Mapping[str, Any] | None
    window: int
    tokenizer: str

    @property
    def id(self) -> str:
        """The title and a hash of everything; safe as a file name."""
        words = json.dumps(attrs.asdict(self), sort_keys=True)
        slug = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "layer"
        return f"{slug[:40]}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
