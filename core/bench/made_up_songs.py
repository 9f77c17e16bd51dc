"""A token store of synthetic songs of realistic size."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
from attrs import field, frozen
from attrs import validators as v

from accomp.core.spec.pairs import PairRules
from accomp.core.types import TokenSpace
from accomp.zarr_store.layout import Identity, Pair, Part, StemFile, TrackRecord
from accomp.zarr_store.reader import Store
from accomp.zarr_store.writer import StoreWriter


@frozen
class Songs:
    """Size of the synthetic store.

    Attributes:
        songs: number of songs.
        minutes: length of each.
        stems: of each.
        incompressible: all codes equally likely; else with an entropy like that of music: each song draws from its own
            share of the codebook, and some frames repeat.
    """

    songs: int = field(default=40, validator=v.ge(1))
    minutes: float = field(default=4.0, validator=v.gt(0))
    stems: int = field(default=8, validator=v.ge(2))
    incompressible: bool = False


def identity(space: TokenSpace) -> SimpleNamespace:
    """Return the part of a tokenizer that a loader needs."""
    return SimpleNamespace(space=space, name="made up", fingerprint="none")


def write(path: Path, space: TokenSpace, rules: PairRules, submixes: int, size: Songs) -> None:
    """Write the store; its mixtures follow the rules of an ingest."""
    one = identity(space)
    settings: dict[str, Any] = {"submixes": submixes, "seed": 0, **rules.ingested()}
    with StoreWriter(path, Identity(attrs.asdict(space), one.name, one.fingerprint), settings) as writer:
        for number in range(size.songs):
            rng = np.random.default_rng(number)
            record = _song(f"song {number}", space, rules, submixes, size)
            tokens = draw_tokens((len(record.parts), record.frames), space, rng, flat=size.incompressible)
            writer.add(record, tokens, np.full((size.stems, record.frames), -20.0))
        writer.finish()


def bytes_of(path: Path) -> tuple[int, float]:
    """Return the bytes of a store's songs on the disk, and those of each frame of one of their parts."""
    tracks = Store(path).tracks("train")
    whole = sum(track.bytes() for track in tracks)
    return whole, whole / sum(len(track.record.parts) * track.record.frames for track in tracks)


def draw_tokens(shape: tuple[int, int], space: TokenSpace, rng: np.random.Generator, *, flat: bool) -> np.ndarray:
    """Draw [P, T, K] codes by `draw_codes`; [P, T, E] latents of unit variance for a space without codebooks."""
    if space.continuous:
        return rng.standard_normal((*shape, space.latent_dim)).astype(np.float16)
    return draw_codes((*shape, space.codebooks), space.codebook_size, rng, flat=flat)


def draw_codes(shape: tuple[int, int, int], size: int, rng: np.random.Generator, *, flat: bool) -> np.ndarray:
    """Draw [P, T, K] codes, all equally likely, or with the skewed frequencies and repeats of music."""
    if flat:
        return rng.integers(0, size, shape)
    order = rng.permutation(size)
    codes = order[np.minimum(rng.exponential(size / 5, shape).astype(int), size - 1)]
    repeated = rng.random(shape[:2]) < 0.1
    repeated[:, 0] = False
    before = np.maximum.accumulate(np.where(repeated, 0, np.arange(shape[1])), axis=1)
    return np.take_along_axis(codes, before[:, :, None], axis=1)


def _song(id: str, space: TokenSpace, rules: PairRules, submixes: int, size: Songs) -> TrackRecord:
    frames = round(size.minutes * 60 * space.frame_rate)
    names = [f"stem {stem}" for stem in range(size.stems)]
    rows: dict[tuple[str, ...], int] = {(name,): row for row, name in enumerate(names)}
    pairs = []
    for row, name in enumerate(names):
        others = [other for other in names if other != name]
        for draw in range(submixes):
            members = rules.members(others, 0, id, name, draw)
            pairs.append(Pair(row, rows.setdefault(members, len(rows)), draw))
    parts = [Part("stem" if len(members) == 1 else "mix", members, 0) for members in rows]
    return TrackRecord(
        id=id, split="train", source="made up", licence="", samples=frames * space.hop, frames=frames,
        bandwidth=space.sample_rate / 2, parts=tuple(parts), pairs=tuple(pairs),
        files=tuple(StemFile(name, space.sample_rate, 1, id) for name in names),
    )  # fmt: skip
