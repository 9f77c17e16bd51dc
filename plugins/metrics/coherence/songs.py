"""Cached training features of coherence for each song: stems and mixtures.

Feature extraction costs more than a training step, so it runs once for some excerpts of every song: each stem (some
reconstructed by a codec, like takes), the mixture of all others for each stem, and random smaller mixtures. Mixing
precedes feature extraction.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from attrs import field, frozen

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import a_weighted_level, nonsilent
from accomp.core.errors import DataError
from accomp.core.files import write_atomic
from accomp.core.interfaces import Tokenizer
from accomp.core.types import Track
from accomp.plugins.metrics.coherence.hpss_mels import HOP, MELS, SAMPLE_RATE, WINDOW, decibels

_RECIPE = 1
"""Version; increase it with every change of the file contents."""
_LEVEL_HOP = 2 * HOP
_GAINS_DB = 6.0
_SELDOM = 0.2
"""Smallest audible share of an excerpt for a target stem."""


@frozen
class Hearing:
    """Settings of feature extraction.

    Attributes:
        stretches, seconds: number of excerpts per song, evenly spaced, and their length (s).
        targets: number of random target stems per excerpt.
        mixtures: random mixtures per excerpt, in addition to those of all stems but one.
        coded: share of targets reconstructed by the codec.
    """

    stretches: int = 3
    seconds: float = 20.0
    targets: int = 4
    mixtures: int = 2
    coded: float = 0.5


@frozen(eq=False)
class Stretch:
    """One excerpt of a song, T feature frames (100 Hz): S of its stems, and mixtures.

    Attributes:
        song, start: song and start time (s).
        classes: [S] instrument class of each stem.
        coded: [S] bool, stems reconstructed by the codec.
        stems: [S, 2, MELS, T] float16, mel levels (dB); `others`: of the mixture of all other stems of the song.
        mixtures: [R, 2, MELS, T], of random mixtures; `members`: [R, S] bool, stems in each mixture.
        sounding: [S, T // 2 + 1] bool, 50 Hz, frames in which the stem and any other stem are audible.
    """

    song: str
    start: float
    classes: np.ndarray
    coded: np.ndarray
    stems: np.ndarray = field(repr=False)
    others: np.ndarray = field(repr=False)
    mixtures: np.ndarray = field(repr=False)
    members: np.ndarray = field(repr=False)
    sounding: np.ndarray = field(repr=False)


_ARRAYS = ("classes", "coded", "stems", "others", "mixtures", "members", "sounding")


def heard(track: Track, folder: Path, hearing: Hearing, codec: Tokenizer | None, seed: int) -> list[Stretch]:
    """Return the excerpts of a song from the cache `folder`, or extract and store them.

    Safe with concurrent processes. Without a codec no stem is reconstructed. Raises DataError for a song that cannot be
    read, is shorter than a window, or has a single stem.
    """
    path = folder / f"{track.id}-{_key(track, hearing, codec, seed)}.npz"
    if not path.is_file():
        stretches = _hear(track, hearing, codec, seed)
        arrays = {f"{i}.{name}": getattr(one, name) for i, one in enumerate(stretches) for name in _ARRAYS}
        buffer = io.BytesIO()
        np.savez(buffer, starts=np.array([one.start for one in stretches]), **arrays)
        write_atomic(path, buffer.getvalue())
    with np.load(path) as held:
        return [
            Stretch(track.id, float(start), *(held[f"{i}.{name}"] for name in _ARRAYS))
            for i, start in enumerate(held["starts"])
        ]


def _key(track: Track, hearing: Hearing, codec: Tokenizer | None, seed: int) -> str:
    files = [(name, *((p.stat().st_size, p.name) for p in stem.files)) for name, stem in track.stems.items()]
    text = repr((_RECIPE, track.id, files, hearing, codec and codec.fingerprint, seed))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hear(track: Track, hearing: Hearing, codec: Tokenizer | None, seed: int) -> list[Stretch]:
    if len(track.stems) < 2:
        raise DataError(f"{len(track.stems)} stem; expected two or more")
    shortest = min(samples / rate for samples, rate in (audio.duration(stem.files) for stem in track.stems.values()))
    if shortest < WINDOW / SAMPLE_RATE:
        raise DataError(f"{shortest:.1f} s; expected a window of {WINDOW / SAMPLE_RATE:g} s or more")
    seconds = min(hearing.seconds, shortest)
    room = shortest - seconds
    count = min(hearing.stretches, 1 + int(room / seconds))
    starts = np.linspace(0.0, room, count + 2)[1:-1] if room > 0 else np.zeros(1)
    rng = np.random.default_rng(list(hashlib.sha256(f"{seed} {track.id}".encode()).digest()))
    return [_stretch(track, float(start), seconds, hearing, codec, rng) for start in starts]


def _stretch(
    track: Track, start: float, seconds: float, hearing: Hearing, codec: Tokenizer | None, rng: np.random.Generator
) -> Stretch:
    rate = SAMPLE_RATE if codec is None else codec.space.sample_rate
    native = [audio.read(stem.files, rate, start=start, seconds=seconds) for stem in track.stems.values()]
    native = [sound[: min(map(len, native))] for sound in native]
    sounds = np.stack([audio.resample(sound, rate, SAMPLE_RATE) for sound in native])
    sounding = np.stack([nonsilent(a_weighted_level(sound, SAMPLE_RATE, _LEVEL_HOP)) for sound in sounds])
    able = np.flatnonzero(sounding.mean(axis=1) > _SELDOM)
    targets = np.sort(rng.permutation(able)[: hearing.targets])
    coded = rng.random(len(targets)) < (0.0 if codec is None else hearing.coded)
    stems = [
        decibels(_through(codec, native[i])[: sounds.shape[1]])
        if codec is not None and through
        else decibels(sounds[i])
        for i, through in zip(targets, coded, strict=True)
    ]
    members = _members(len(sounds), hearing.mixtures, rng)
    gains = 10 ** (rng.uniform(-_GAINS_DB, _GAINS_DB, members.shape) / 20)
    mixtures = (members * gains).astype(np.float32) @ sounds
    total = sounds.sum(axis=0)
    instruments = np.array([stem.instrument for stem in track.stems.values()])
    return Stretch(
        song=track.id,
        start=start,
        classes=instruments[targets],
        coded=coded,
        stems=_stack(stems, sounds),
        others=_stack([decibels(total - sounds[i]) for i in targets], sounds),
        mixtures=_stack([decibels(mixture) for mixture in mixtures], sounds),
        members=members[:, targets],
        sounding=np.stack([sounding[i] & np.delete(sounding, i, 0).any(axis=0) for i in range(len(sounds))])[targets],
    )


def _stack(levels: list[np.ndarray], sounds: np.ndarray) -> np.ndarray:
    """Stack levels to [len(levels), 2, MELS, T] float16, also for an empty list."""
    shape = (len(levels), 2, MELS, sounds.shape[1] // HOP + 1)
    return np.array(levels, dtype=np.float16).reshape(shape)


def _members(stems: int, mixtures: int, rng: np.random.Generator) -> np.ndarray:
    """[mixtures, stems] bool: U{1 .. stems - 1} members per mixture."""
    members = np.zeros((mixtures, stems), dtype=bool)
    for row in members:
        row[rng.permutation(stems)[: rng.integers(1, stems)]] = True
    return members


def _through(codec: Tokenizer, sound: np.ndarray) -> np.ndarray:
    """Encode and decode a sound [N] at the codec's rate; return it at SAMPLE_RATE."""
    with torch.inference_mode():
        decoded = codec.decode(codec.encode(torch.from_numpy(sound)[None]))[0, : len(sound)]
    return audio.resample(decoded.cpu().numpy(), codec.space.sample_rate, SAMPLE_RATE)
