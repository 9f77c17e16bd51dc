"""Selection of excerpts of held-out songs for accompaniment and scoring: by seed, without silence, with names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count as forever

import attrs
import numpy as np
from attrs import frozen

from accomp.core.audio import io as audio
from accomp.core.audio.lengths import unequal
from accomp.core.audio.loudness import a_weighted_level, nonsilent
from accomp.core.errors import DataError
from accomp.core.spec.pairs import PairRules
from accomp.core.types import Track

TRIES = 12
"""Places in a song that are analysed before a stem counts as silent there."""
LISTENED = 16000
"""Sample rate (Hz) of the analysis that finds where a stem sounds."""
ROUNDS = 8
"""Largest number of passes over the stems of one song."""

LONGEST_NAME = 160
"""Characters of a name kept in an excerpt's id: file systems end at 255 bytes, and temporary names are longer."""


@frozen
class Failure:
    """A requested clip without a result, and the reason."""

    clip: str
    reason: str


@frozen
class Excerpt:
    """`seconds` of a song from `start` (both s): stem `target` accompanies the mean of the stems `context`."""

    track: Track
    target: str
    context: tuple[str, ...]
    start: float
    seconds: float

    @property
    def id(self) -> str:
        """A name that is unique to the excerpt and safe as a file name."""
        plain = f"{self.track.id}-{self.target}-{self.start:g}s"
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip(".")
        if safe == plain and len(safe) <= LONGEST_NAME:
            return safe
        return f"{safe[:LONGEST_NAME]}-{hashlib.sha256(plain.encode()).hexdigest()[:6]}"

    @property
    def instrument(self) -> int:
        """Class of the target stem."""
        return self.track.stems[self.target].instrument

    def context_audio(self, rate: int) -> np.ndarray:
        """Read the mean of the context's stems, [seconds * rate] float32. Raises DataError for an unreadable file."""
        stems = [_read(self.track, name, self.start, self.seconds, rate) for name in self.context]
        return np.stack(stems).mean(axis=0)

    def stem_audio(self, rate: int) -> np.ndarray:
        """Read the target, [seconds * rate] float32. Raises DataError for an unreadable file."""
        return _read(self.track, self.target, self.start, self.seconds, rate)


def choose(
    tracks: Sequence[Track], count: int, seconds: float, seed: int, rules: PairRules
) -> tuple[list[Excerpt], list[Failure]]:
    """Choose `count` excerpts, or fewer where the songs do not suffice; also return the songs that gave none.

    Different songs come first, then other stems of the same songs, then other places. The context is the mean of all
    other stems. The target is allowed by the rules and sounds together with the context. The choice of an excerpt
    depends on the seed and its own song alone.
    """
    songs = sorted(tracks, key=lambda track: keyed(seed, "song", track.id).random())
    sources = [_excerpts(track, seconds, seed, rules) for track in songs]
    found: list[Excerpt] = []
    failures: list[Failure] = []
    for turn in range(ROUNDS):
        for track, source in list(zip(songs, sources, strict=True)):
            if len(found) == count:
                return found, failures
            try:
                excerpt = next(source, None)
            except DataError as error:
                failures.append(Failure(track.id, str(error)))
                continue
            if excerpt is not None:
                found.append(excerpt)
            elif turn == 0:
                text = f"no stem that may be played sounds with the others for {rules.sounding:.0%} of {seconds:g} s"
                failures.append(Failure(track.id, text))
    return found, failures


def partner(excerpt: Excerpt, tracks: Sequence[Track], seed: int, rules: PairRules) -> Excerpt | None:
    """Find another song's sounding stem of the same instrument class, as long as the excerpt; None if there is none.

    Unreadable songs are skipped here; they are reported where an excerpt of their own is requested.
    """
    others = [track for track in tracks if track.id != excerpt.track.id]
    for track in sorted(others, key=lambda track: keyed(seed, "partner", excerpt.id, track.id).random()):
        rng = keyed(seed, "part", excerpt.id, track.id)
        names = [name for name, stem in track.stems.items() if stem.instrument == excerpt.instrument]
        drawn = [str(name) for name in rng.permutation(names)]
        with suppress(DataError):
            usable = _usable(track, least=1)
            for name in (name for name in drawn if name in usable.stems):
                if (start := _where_it_sounds(usable, name, excerpt.seconds, rng, rules)) is not None:
                    return Excerpt(usable, name, (), start, excerpt.seconds)
    return None


def _where_it_sounds(
    track: Track, name: str, seconds: float, rng: np.random.Generator, rules: PairRules
) -> float | None:
    """Return the time (s) from which a stem sounds for long enough; None where there is none, or the file is
    unreadable.
    """
    for start in _starts(track, seconds, rng):
        with suppress(DataError):
            if _share(_sounding(track, name, start, seconds, rules)) >= rules.sounding:
                return start
    return None


def keyed(seed: int, *names: object) -> np.random.Generator:
    """Create a random generator whose seed is a hash of `seed` and these names."""
    words = hashlib.sha256("\0".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(np.frombuffer(words, dtype=np.uint32))


def _excerpts(track: Track, seconds: float, seed: int, rules: PairRules) -> Iterator[Excerpt]:
    """Yield excerpts of one song: each allowed stem once, in random order, then again elsewhere.

    Raises DataError for a song shorter than an excerpt, or with fewer than two usable stems.
    """
    track = _usable(track)
    rng = keyed(seed, "excerpt", track.id, seconds)
    allowed = [name for name, stem in track.stems.items() if rules.may_be_target(stem.instrument)]
    targets = [str(name) for name in rng.permutation(allowed)]
    used: set[tuple[str, float]] = set()
    for _ in forever():
        before = len(used)
        for target in targets:
            context = tuple(name for name in track.stems if name != target)
            for start in _starts(track, seconds, rng):
                if (target, start) not in used and context and _plays(track, target, context, start, seconds, rules):
                    used.add((target, start))
                    yield Excerpt(track, target, context, start, seconds)
                    break
        if len(used) == before:
            return


def _usable(track: Track, *, least: int = 2) -> Track:
    """Return the song with its readable stems of the usual length, the same as an ingest uses.

    Raises DataError, with the reasons, where fewer than `least` are left.
    """
    lengths, why = {}, {}
    for name, stem in track.stems.items():
        try:
            samples, rate = audio.duration(stem.files)
        except DataError as error:
            why[name] = str(error)
        else:
            lengths[name] = samples / rate
    why |= unequal(lengths)
    if len(track.stems) - len(why) < least:
        reasons = "".join(f"; {name}: {reason}" for name, reason in why.items())
        raise DataError(f"{len(track.stems) - len(why)} of {len(track.stems)} stems can be used of {least}{reasons}")
    return attrs.evolve(track, stems={name: stem for name, stem in track.stems.items() if name not in why})


def _starts(track: Track, seconds: float, rng: np.random.Generator) -> list[float]:
    """Draw some whole seconds, in random order, from which an excerpt fits into the shortest stem."""
    lengths = (audio.duration(stem.files) for stem in track.stems.values())
    shortest = min(samples / rate for samples, rate in lengths)
    if shortest < seconds:
        raise DataError(f"too short: {shortest:.2f} s; an excerpt of {seconds:g} s was asked for")
    starts = np.arange(int(shortest - seconds) + 1)
    return [float(start) for start in rng.permutation(starts)[:TRIES]]


def _plays(track: Track, target: str, context: tuple[str, ...], start: float, seconds: float, rules: PairRules) -> bool:
    """Test that target and at least one stem of the context sound together for long enough."""
    stem = _sounding(track, target, start, seconds, rules)
    if _share(stem) < rules.sounding:
        return False
    others = np.any([_sounding(track, name, start, seconds, rules) for name in context], axis=0)
    return _share(stem & others) >= rules.sounding


def _sounding(track: Track, name: str, start: float, seconds: float, rules: PairRules) -> np.ndarray:
    """Return the activity of a stem, 50 times a second."""
    return nonsilent(a_weighted_level(_read(track, name, start, seconds, LISTENED), LISTENED), rules.silence_db)


def _share(mask: np.ndarray) -> float:
    return float(mask.mean())


def _read(track: Track, name: str, start: float, seconds: float, rate: int) -> np.ndarray:
    """Read exactly round(seconds * rate) samples. Raises DataError for a shorter file."""
    files = track.stems[name].files
    sound = audio.read(files, rate, start=start, seconds=seconds)
    length = round(seconds * rate)
    if len(sound) < length - 2:  # resampling may lose a sample by rounding
        raise DataError(
            f"{len(sound) / rate:.2f} s could be read from {start:g} s; expected {seconds:g} s @ {files[0]}"
        )
    return np.pad(sound[:length], (0, max(0, length - len(sound))))
