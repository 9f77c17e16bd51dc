"""Clip sets that are scored: the model's takes or an anchor's clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
from attrs import field, frozen

from accomp.core.audio import io as audio
from accomp.core.data.excerpts import Excerpt, Failure
from accomp.core.errors import DataError
from accomp.core.evaluation.cache import Cache
from accomp.core.generation.take_files import takes_of
from accomp.core.music.labels import TIMELINES
from accomp.core.trouble import raise_trouble
from accomp.core.types import Loss, Take


class Clip(Protocol):
    """A clip to be scored."""

    @property
    def id(self) -> str: ...

    @property
    def instrument(self) -> int:
        """Class of the stem that accompanies the context."""
        ...

    def load(self, rate: int) -> Take:
        """Load the audio at `rate` Hz. Raises DataError for an unreadable file."""
        ...

    def identity(self) -> Any:
        """Return everything that its audio depends on, JSON-able."""
        ...


@frozen
class TakeClip:
    """A take of the model, in its folder.

    Attributes:
        stems: number of stems in the context.
        made_from: everything that it depends on.
        played: name of the audio that is scored.
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
    """The true stem of an excerpt, encoded and decoded, an upper bound for any model of the codec's codes.

    Attributes:
        through: a function from audio [N] at the codec's rate to the same after encoding and decoding.
        codec: fingerprint of the codec.
        folder: folder of the decoded audio.
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
        """Load the audio; `rate` is that of the codec."""
        take = self.true.load(rate)
        stem = Cache(self.folder).array(f"codec {self.codec} {rate} Hz", take.stem, self.through)
        return attrs.evolve(take, stem=stem.copy())

    def identity(self) -> Any:
        return [self.codec, self.true.identity()]


@frozen
class ClipSet:
    """Clips that are scored as one set.

    Attributes:
        left_out: clips of the set that are unavailable, with the reason.
        losses: id of a clip -> loss of its model on the true stem's codes; None where no model made them.
    """

    name: str
    title: str
    clips: tuple[Clip, ...]
    left_out: tuple[Failure, ...] = ()
    losses: Callable[[str], dict[str, Loss]] | None = None

    def identity(self) -> str:
        """Return a hash that changes when the audio of any clip may change."""
        clips = [self.name, [clip.identity() for clip in self.clips]]
        return hashlib.sha256(json.dumps(clips).encode()).hexdigest()


def take_cell(
    run: Path, takes_record: dict[str, Any], losses: Callable[[str], dict[str, Loss]] | None = None
) -> ClipSet:
    """Build the clip set of the takes in `made`, the content of takes.json. Raises WorkError for an altered take."""
    return ClipSet("model", _title(takes_record), tuple(_take_clips(run, takes_record)), _failed(takes_record), losses)


def deaf_cells(run: Path, takes_record: dict[str, Any]) -> list[ClipSet]:
    """Build the clip set that the same model played to other songs; none where it was not requested."""
    if not takes_record["settings"]["generate"].get("deaf"):
        return []
    clips, lonely = [], []
    for clip in _take_clips(run, takes_record):
        if "deaf" in json.loads(clip.made_from):
            clips.append(attrs.evolve(clip, played="deaf"))
        else:
            lonely.append(Failure(clip.id, "no other song to take a context from"))
    return [
        ClipSet(
            "deaf", f"{_title(takes_record)}, hearing another song", tuple(clips), (*_failed(takes_record), *lonely)
        )
    ]


def _take_clips(run: Path, takes_record: dict[str, Any]) -> list[TakeClip]:
    """List the takes. Raises WorkError, with all of them, for altered ones."""
    clips = []
    for record in takes_of(run, takes_record):
        made_from, stems = json.dumps(record["made_from"], sort_keys=True), len(record["context_stems"])
        files = record.get("files", {})
        clips.append(TakeClip(record["id"], record["folder"], record["instrument"], stems, made_from, files=files))
    return clips


def _title(takes_record: dict[str, Any]) -> str:
    chosen, frames = takes_record["settings"]["generate"], takes_record.get("prompt_frames", 0)
    title = "model"
    title += ", another song's context" if chosen.get("input", "paired") == "random" else ""
    title += f", after a prompt of {frames} frames" if frames else ""
    known = "annotations"
    return title + "".join(f", {name} {chosen[name]}" for name in TIMELINES if chosen.get(name, known) != known)


def _failed(takes_record: dict[str, Any]) -> tuple[Failure, ...]:
    return tuple(Failure(**failed) for failed in takes_record["failed"])


def _stat(path: Path) -> list[Any]:
    try:
        stat = path.stat()
    except OSError as error:
        raise_trouble(error)
        raise DataError(f"{error.strerror} @ {path}") from error
    return [path.name, stat.st_size, stat.st_mtime_ns, stat.st_ino]
