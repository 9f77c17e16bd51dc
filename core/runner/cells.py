"""What is judged: clips in cells, the model's takes or an anchor's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
from attrs import frozen

from accomp.core import audio
from accomp.core.cache import Cache
from accomp.core.conditions import TIMELINES
from accomp.core.errors import DataError
from accomp.core.runner.excerpts import Excerpt, Failure
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
    """

    id: str
    folder: Path
    instrument: int
    stems: int
    made_from: str

    def load(self, rate: int) -> Take:
        context, stem, true = (audio.read(self.folder / f"{name}.wav", rate) for name in ("context", "stem", "true"))
        return Take(self.id, context, stem, rate, self.instrument, true, stems=self.stems)

    def identity(self) -> Any:
        return [self.id, self.made_from, *(_stat(self.folder / f"{name}.wav") for name in ("context", "stem"))]


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
        codec: which one, by fingerprint.
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
    """The takes that `made`, the content of takes.json, lists. Raises DataError where one is gone."""
    clips = []
    for id in made["takes"]:
        folder = run / "takes" / id
        try:
            record = json.loads((folder / "take.json").read_text(encoding="utf-8"))
            made_from = json.dumps(record["made_from"], sort_keys=True)
            clips.append(TakeClip(id, folder, record["instrument"], len(record["context_stems"]), made_from))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"take '{id}' is gone or broken ({error}); run `accomp generate SPEC` @ {folder}"
            ) from error
    chosen, frames = made["settings"]["generate"], made.get("prompt_frames", 0)
    title = "model"
    title += ", another song's context" if chosen.get("input", "paired") == "random" else ""
    title += f", after a prompt of {frames} frames" if frames else ""
    title += "".join(
        f", {name} {chosen[name]}" for name in TIMELINES if chosen.get(name, "annotations") != "annotations"
    )
    return Cell("model", title, tuple(clips), tuple(Failure(**failed) for failed in made["failed"]), losses)


def _stat(path: Path) -> list[Any]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{error.strerror} @ {path}") from error
    return [path.name, stat.st_size, stat.st_mtime_ns]
