"""All that decides how a stem sounds, and the name that follows from it."""

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
    """Who plays what to which song; the same recipe gives the same stem.

    Attributes:
        parent: id of the node whose song is accompanied, or ROOT.
        title: what was asked for, the instrument as a rule.
        conditions: label -> class that the model was told; those withheld are not there.
        seed, session: decide what is sampled; the session follows from the parent and the variation.
        variation: its number among those made alike, from 0.
        sampler: its section of a spec.
        guidance: condition -> scale.
        weights: SHA-256 of the model's.
        objective, clock: their sections of the model's spec; a model that hears whole clips has no clock.
        window: frames that the model looks back, or plays at a time.
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
