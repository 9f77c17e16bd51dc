"""Music that codecs are measured on: mixes of a corpus and stems by instrument class, or the files of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from attrs import evolve, frozen
from torch import Tensor

from accomp.plugin import Corpus, DataError, Track
from accomp.plugin.corpora import CLASSES
from accomp.plugin.sound import SILENCE_DB, a_weighted_level, nonsilent
from accomp.plugin.sound import io as audio
from accomp.plugins.tokenizers.codec.music.files import matching

MIXES, FILES = "Mixes", "Files"
"""Groups other than instrument classes."""
ENOUGH, LEAST = 0.5, 0.1
"""Shares of audible 20 ms frames: a stretch with the first is taken at once, one below the second never."""
SHORTEST = 1.0
"""Seconds; shorter sounds are left out."""


@frozen
class Sound:
    """A sound to measure on: one stem of files that are summed, or several stems, whose mean is a mix."""

    name: str
    stems: tuple[tuple[Path, ...], ...]
    song: str = ""

    def read(self, rate: int, start: float, seconds: float) -> Tensor:
        """[N] at `rate` Hz, `seconds` from `start` (s); a stem that ends early is silent after its end."""
        parts = [audio.read(files, rate, start=start, seconds=seconds) for files in self.stems]
        padded = [np.pad(part, (0, max(map(len, parts)) - len(part))) for part in parts]
        return torch.from_numpy(np.mean(padded, axis=0, dtype=np.float32))

    def lengths(self) -> tuple[float, int]:
        """Seconds of the longest stem, and the highest of the stems' rates (Hz)."""
        found = [audio.duration(files) for files in self.stems]
        return max(samples / rate for samples, rate in found), max(rate for _, rate in found)


@frozen
class Song:
    """Origin of a song."""

    id: str
    source: str
    licence: str


@frozen
class Stretch:
    """`seconds` of a sound from `start` (s). `group`: an instrument class, MIXES or FILES."""

    group: str
    sound: Sound
    start: float
    seconds: float

    @property
    def name(self) -> str:
        return self.sound.name

    def read(self, rate: int) -> Tensor:
        """[N] at `rate` Hz. Raises DataError."""
        return self.sound.read(rate, self.start, self.seconds)


@frozen
class Music:
    """Excerpts to measure on, and the sounds that are left out.

    Attributes:
        excerpts: group by group; mixes or files first, then classes in their order.
        silent: sounds without an audible stretch, "group: name".
        failed: a line for each sound that could not be used, with the reason.
        about: source of the music, for people.
        songs: songs of the excerpts, where a corpus names them.
    """

    excerpts: tuple[Stretch, ...]
    silent: tuple[str, ...]
    failed: tuple[str, ...]
    about: str
    songs: tuple[Song, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.group for one in self.excerpts))


def corpus_music(corpus: Corpus, splits: Sequence[str], each: int, seconds: float, about: str) -> Music:
    """Up to `each` excerpts of the songs' mixes and of every instrument class, from some splits of a corpus.

    Raises DataError for an unknown split, and where nothing is audible.
    """
    tracks = [track for split in splits for track in corpus.tracks(split)]
    groups: dict[str, list[Sound]] = {MIXES: []}
    for instrument in range(len(CLASSES)):
        groups[CLASSES[instrument]] = []
    for track in tracks:
        groups[MIXES].append(mix_of(track))
        for name, stem in track.stems.items():
            groups[CLASSES[stem.instrument]].append(Sound(f"{track.id}, {name}", (stem.files,), track.id))
    music = _choose(groups, each, seconds, about, corpus.problems)
    used = {one.sound.song for one in music.excerpts}
    return evolve(music, songs=tuple(Song(t.id, t.source, t.licence) for t in tracks if t.id in used))


def mix_of(track: Track) -> Sound:
    """The mean of all its stems."""
    return Sound(f"{track.id}, mix", tuple(stem.files for stem in track.stems.values()), track.id)


def folder_music(root: Path, patterns: Sequence[str], each: int, seconds: float) -> Music:
    """Up to `each` excerpts of the files below a folder that match any of the patterns, as one group.

    Raises DataError where the folder is missing, nothing matches, or nothing is audible.
    """
    if not root.is_dir():
        raise DataError(f"no such folder @ {root}; expected one that holds music")
    files = sorted(matching(root, patterns))
    if not files:
        raise DataError(f"no file matches {', '.join(patterns)} @ {root}; give other patterns with --glob")
    sounds = [Sound(path.relative_to(root).as_posix(), ((path,),)) for path in files]
    return _choose({FILES: sounds}, each, seconds, f"{', '.join(patterns)} @ {root}", ())


def _choose(
    groups: dict[str, list[Sound]],
    each: int,
    seconds: float,
    about: str,
    problems: Iterable[str],
) -> Music:
    excerpts: list[Stretch] = []
    silent: list[str] = []
    failed = list(problems)
    for group, sounds in groups.items():
        found = 0
        for sound in _spread(sounds, each):
            if found == each:
                break
            try:
                start = sounding(sound, seconds)
            except DataError as error:
                failed += [f"{group}: {problem}" for problem in error.problems]
                continue
            if start is None:
                silent.append(f"{group}: {sound.name}")
                continue
            excerpts.append(Stretch(group, sound, start, seconds))
            found += 1
    if not excerpts:
        why = "; ".join([*failed, *(f"silent: {name}" for name in silent)][:3]) or "there is none"
        raise DataError(f"no sound to measure on: {why} @ {about}")
    return Music(tuple(excerpts), tuple(silent), tuple(dict.fromkeys(failed)), about)


def _spread(sounds: Sequence[Sound], n: int) -> list[Sound]:
    """All sounds in order of preference: n that are evenly spread, then the others, to replace unusable ones."""
    n = min(n, len(sounds))
    first = [i * len(sounds) // n for i in range(n)]
    return [sounds[i] for i in [*first, *(i for i in range(len(sounds)) if i not in set(first))]]


def sounding(sound: Sound, seconds: float) -> float | None:
    """Start (s) of an audible stretch, searched from the middle outwards; None where there is none.

    The first in which half of the 20 ms frames are audible (A-weighted, over SILENCE_DB), else the one with the most
    audible frames, if they are a tenth. Raises DataError for what cannot be read or is shorter than a second.
    """
    length, rate = sound.lengths()
    if length < SHORTEST:
        raise DataError(f"{length:.2f} s, shorter than {SHORTEST:g} s @ {sound.name}")
    middle = max(0.0, (length - seconds) / 2)
    steps = int(middle // seconds)
    best, where = 0.0, middle
    starts = {0.0, 2 * middle, *(middle + step * seconds for step in range(-steps, steps + 1))}
    for start in sorted(starts, key=lambda start: (abs(start - middle), start)):
        part = sound.read(rate, start, seconds).numpy()
        share = float(nonsilent(a_weighted_level(part, rate), SILENCE_DB).mean())
        if share >= ENOUGH:
            return start
        if share > best:
            best, where = share, start
    return where if best >= LEAST else None


def middle_of(path: Path, rate: int, seconds: float) -> Tensor:
    """[N] at `rate` Hz: `seconds` from the middle of a file, or all of a shorter one."""
    samples, native = audio.duration(path)
    start = max(0.0, (samples / native - seconds) / 2)
    return torch.from_numpy(audio.read(path, rate, start=start, seconds=seconds))
