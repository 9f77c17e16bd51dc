"""What is judged: clips in cells, the model's takes or an anchor's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
from attrs import field, frozen

from accomp.core import audio
from accomp.core.cache import Cache
from accomp.core.conditions import TIMELINES
from accomp.core.errors import DataError
from accomp.core.runner.excerpts import Excerpt, Failure
from accomp.core.runner.take_files import takes_of
from accomp.core.trouble import raise_trouble
from accomp.core.types import Loss, Take


class Clip(Protocol):
    """Something to be judged."""

    @property
    def id(self) -> str: ...

    @property
    def instrument(self) -> int:
        """Class of the stem that belongs there."""
        ...

    def load(self, rate: int) -> Take:
        """At `rate` Hz. Raises DataError for a file that cannot be read."""
        ...

    def identity(self) -> Any:
        """What its sound depends on, JSON-able."""
        ...


@frozen
class TakeClip:
    """A take of the model, in its folder.

    Attributes:
        stems: of how many the context is a mixture.
        made_from: what it depends on.
        played: name of the sound that is judged.
        files: name -> size and SHA-256 of its files, as far as they are known.
    """

    id: str
    folder: Path
    instrument: int
    stems: int
    made_from: str
    played: str = "stem"
    files: dict[str, dict[str, Any]] = field(factory=dict, repr=False)

    def load(self, rate: int) -> Take:
        names = ("context", self.played, "true")
        context, stem, true = (audio.read(self.folder / f"{name}.wav", rate) for name in names)
        return Take(self.id, context, stem, rate, self.instrument, true, stems=self.stems)

    def identity(self) -> Any:
        names = [f"{name}.wav" for name in ("context", self.played, "true")]
        return [self.id, self.made_from, *(self.files.get(name) or _stat(self.folder / name) for name in names)]


@frozen
class SongClip:
    """The context of one excerpt, and the stem of the same or another one."""

    id: str
    context: Excerpt
    stem: Excerpt

    @property
    def instrument(self) -> int:
        return self.context.instrument

    def load(self, rate: int) -> Take:
        context, truth = self.context.context_audio(rate), self.context.stem_audio(rate)
        stem = truth if self.stem is self.context else self.stem.stem_audio(rate)
        return Take(self.id, context, stem, rate, self.instrument, truth, stems=len(self.context.context))

    def identity(self) -> Any:
        stems = [self.context.track.stems[name] for name in self.context.context]
        stems.append(self.stem.track.stems[self.stem.target])
        paths = [path for stem in stems for path in stem.files]
        return [self.id, self.context.start, self.stem.start, *map(_stat, paths)]


@frozen
class CodecClip:
    """The true stem of an excerpt as a codec makes it sound, which no model of its codes can better.

    Attributes:
        through: a sound [N] at the codec's rate -> the same after encoding and decoding.
        codec: which one, and how it sounds; see decoder_fingerprint_of.
        folder: where what it made is kept.
    """

    true: SongClip
    through: Callable[[np.ndarray], np.ndarray]
    codec: str
    folder: Path

    @property
    def id(self) -> str:
        return self.true.id

    @property
    def instrument(self) -> int:
        return self.true.instrument

    def load(self, rate: int) -> Take:
        """`rate` is that of the codec."""
        take = self.true.load(rate)
        stem = Cache(self.folder).array(f"codec {self.codec} {rate} Hz", take.stem, self.through)
        return attrs.evolve(take, stem=stem.copy())

    def identity(self) -> Any:
        return [self.codec, self.true.identity()]


@frozen
class Cell:
    """Clips that are judged as one.

    Attributes:
        left_out: clips that belong here and could not be had, with the reason.
        losses: id of a clip -> what the model that made it makes of the true stem's codes; None where no model did.
    """

    name: str
    title: str
    clips: tuple[Clip, ...]
    left_out: tuple[Failure, ...] = ()
    losses: Callable[[str], dict[str, Loss]] | None = None

    def identity(self) -> str:
        """A hash that changes when any of its clips may sound different."""
        clips = [self.name, [clip.identity() for clip in self.clips]]
        return hashlib.sha256(json.dumps(clips).encode()).hexdigest()


def take_cell(run: Path, made: dict[str, Any], losses: Callable[[str], dict[str, Loss]] | None = None) -> Cell:
    """The takes that `made`, the content of takes.json, lists. Raises WorkError where one is not what was made."""
    return Cell("model", _title(made), tuple(_take_clips(run, made)), _failed(made), losses)


def deaf_cells(run: Path, made: dict[str, Any]) -> list[Cell]:
    """What the model of those takes played while it heard other songs; none where it was not asked to."""
    if not made["settings"]["generate"].get("deaf"):
        return []
    clips, lonely = [], []
    for clip in _take_clips(run, made):
        if "deaf" in json.loads(clip.made_from):
            clips.append(attrs.evolve(clip, played="deaf"))
        else:
            lonely.append(Failure(clip.id, "no other song whose context it could hear"))
    return [Cell("deaf", f"{_title(made)}, hearing another song", tuple(clips), (*_failed(made), *lonely))]


def _take_clips(run: Path, made: dict[str, Any]) -> list[TakeClip]:
    """Raises WorkError, with all of them, where takes are not what was made."""
    clips = []
    for record in takes_of(run, made):
        made_from, stems = json.dumps(record["made_from"], sort_keys=True), len(record["context_stems"])
        files = record.get("files", {})
        clips.append(TakeClip(record["id"], record["folder"], record["instrument"], stems, made_from, files=files))
    return clips


def _title(made: dict[str, Any]) -> str:
    chosen, frames = made["settings"]["generate"], made.get("prompt_frames", 0)
    title = "model"
    title += ", another song's context" if chosen.get("input", "paired") == "random" else ""
    title += f", after a prompt of {frames} frames" if frames else ""
    known = "annotations"
    return title + "".join(f", {name} {chosen[name]}" for name in TIMELINES if chosen.get(name, known) != known)


def _failed(made: dict[str, Any]) -> tuple[Failure, ...]:
    return tuple(Failure(**failed) for failed in made["failed"])


def _stat(path: Path) -> list[Any]:
    try:
        stat = path.stat()
    except OSError as error:
        raise_trouble(error)
        raise DataError(f"{error.strerror} @ {path}") from error
    return [path.name, stat.st_size, stat.st_mtime_ns, stat.st_ino]
