"""Loading of songs for the ingest: stems of one length, checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import evolve, field, frozen

from accomp.core.audio import io as audio
from accomp.core.audio.lengths import unequal
from accomp.core.audio.loudness import a_weighted_level, nonsilent
from accomp.core.errors import DataError
from accomp.core.files import hash_files, seen, settled
from accomp.core.spec.pairs import PairRules
from accomp.core.trouble import raise_trouble
from accomp.core.types import Stem, TokenSpace, Track

SHORTEST = 1.0
"""Shortest song (s) that is accepted."""
_MIXED = 0.01  # of a stem's energy (-20 dB): largest residual of a mixture after subtraction of its stems


@frozen
class Source:
    """A stem's file or files as found. The fields are those of the store's StemFile."""

    name: str
    rate: int
    bytes: int
    sha256: str
    padded: int = 0
    skipped: str = ""
    seen: list[list[int]] = field(factory=list)


@frozen(eq=False)
class Song:
    """A song for training: at least two stems that sound, one of them an allowed target.

    Attributes:
        names, instruments: of the S stems that sound, in the order of the track.
        stems: audio [S, N] float32 at the tokenizer's rate.
        levels: A-weighted level of each codec frame [S, T] (dB).
        bandwidth: highest frequency with energy (Hz).
        sources: every stem of the track, including those left out.
    """

    names: tuple[str, ...]
    instruments: tuple[int, ...]
    stems: np.ndarray = field(repr=False)
    levels: np.ndarray = field(repr=False)
    bandwidth: float
    sources: tuple[Source, ...]


def load_song(track: Track, space: TokenSpace, rules: PairRules) -> Song:
    """Read and check the stems of a track. Silent stems, stems of another length and mixtures of others are left out by
    name.

    `rules` define silence and the allowed targets.

    Raises DataError where the song as a whole is unusable: too short, or with too few stems.
    """
    sources, sounds = _read_stems(track, space.sample_rate)
    for name, why in unequal({name: len(sound) / space.sample_rate for name, sound in sounds.items()}).items():
        sources[name] = evolve(sources[name], skipped=why)
        del sounds[name]
    length = _common_length(sounds, space.sample_rate)
    names = tuple(sounds)
    stems = np.zeros((len(names), length), dtype=np.float32)
    levels = np.empty((len(names), space.frames(length)), dtype=np.float32)
    for row, name in enumerate(names):
        sound = sounds.pop(name)  # in place: a long song with many stems is large
        stems[row, : len(sound)] = sound
        levels[row] = a_weighted_level(stems[row], space.sample_rate, space.hop)[: levels.shape[1]]
        sources[name] = evolve(sources[name], padded=length - len(sound))
    audible = [bool(nonsilent(level, rules.silence_db).any()) for level in levels]
    for name in (name for name, sounding in zip(names, audible, strict=True) if not sounding):
        sources[name] = evolve(sources[name], skipped="silent throughout")
    for row, why in _mixtures(stems, audible).items():
        sources[names[row]] = evolve(sources[names[row]], skipped=why)
        audible[row] = False
    names = tuple(name for name in names if not sources[name].skipped)
    instruments = tuple(track.stems[name].instrument for name in names)
    _check_enough(instruments, tuple(sources.values()), rules)
    if not all(audible):
        stems, levels = stems[audible], levels[audible]
    reach = audio.bandwidth(stems.mean(axis=0), space.sample_rate)
    return Song(names, instruments, stems, levels, reach, tuple(sources.values()))


def _read_stems(track: Track, rate: int) -> tuple[dict[str, Source], dict[str, np.ndarray]]:
    sources: dict[str, Source] = {}
    sounds: dict[str, np.ndarray] = {}
    for name, stem in track.stems.items():
        before = _seen(stem)
        source, sound = _read_stem(name, stem, rate)
        if _seen(stem) != before:
            source, sound = evolve(source, sha256="", skipped="was changed while it was read"), None
        sources[name] = evolve(source, seen=before if settled(before) else [])
        if sound is not None:
            sounds[name] = sound
    return sources, sounds


def _seen(stem: Stem) -> list[list[int]]:
    try:
        return seen(stem.files)
    except OSError:  # reported where it is read
        return []


def _read_stem(name: str, stem: Stem, rate: int) -> tuple[Source, np.ndarray | None]:
    source = Source(name, 0, -1, "")
    try:
        source = Source(name, 0, sum(path.stat().st_size for path in stem.files), hash_files(stem.files))
        samples, native = audio.duration(stem.files)
        source = evolve(source, rate=native)
        if samples == 0:
            return evolve(source, skipped="holds no samples"), None
        sound = audio.read(stem.files, rate)
    except FileNotFoundError:
        return evolve(source, skipped="no such file"), None
    except OSError as error:
        raise_trouble(error)
        return evolve(source, skipped=f"cannot be read: {error.strerror}"), None
    except DataError as error:
        return evolve(
            source, skipped=str(error).partition(" @ ")[0]
        ), None  # the store must not depend on absolute paths
    return source, sound


def _common_length(sounds: dict[str, np.ndarray], rate: int) -> int:
    longest = max(map(len, sounds.values()), default=0)
    if sounds and longest < SHORTEST * rate:
        raise DataError(f"too short: {longest / rate:.2f} s, expected at least {SHORTEST:g} s")
    return longest


def _mixtures(stems: np.ndarray, audible: Sequence[bool]) -> dict[int, str]:
    """Find rows of stems [S, N] that repeat another row or are the sum of the others, up to a gain; return them with
    the reason why they are left out: a context with such a stem would contain its own target.
    """
    products = stems @ stems.T
    left: dict[int, str] = {}
    for row in (row for row, sounding in enumerate(audible) if sounding):
        before = [other for other in range(row) if audible[other] and other not in left]
        if any(_is_sum(products, row, [other]) for other in before):
            left[row] = "the same sound as another stem of the song"
    remaining = [row for row, sounding in enumerate(audible) if sounding and row not in left]
    for row in remaining if len(remaining) > 2 else ():
        if _is_sum(products, row, [other for other in remaining if other != row]):
            left[row] = "a mixture: the sum of the song's other stems"
    return left


def _is_sum(products: np.ndarray, row: int, others: Sequence[int]) -> bool:
    """Test that almost nothing is left of a row after projection on the sum of `others`.

    products [S, S]: inner products of the rows.
    """
    energy, power, shared = products[row, row], products[np.ix_(others, others)].sum(), products[row, others].sum()
    return bool(shared > 0 and energy - shared**2 / power < _MIXED * energy)


def _check_enough(instruments: Sequence[int], sources: Sequence[Source], rules: PairRules) -> None:
    why = "".join(f"; {source.name}: {source.skipped}" for source in sources if source.skipped)
    if len(instruments) < 2:
        raise DataError(f"{len(instruments)} of {len(sources)} stems can be used, an accompaniment needs 2{why}")
    if not any(map(rules.may_be_target, instruments)):
        excluded = ", ".join(rules.never_targets)
        raise DataError(f"no stem may be a target (pairs.never_targets: {excluded}){why}")
