"""What is judged: the model's takes, and two anchors that say what a number means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from attrs import frozen

from accomp.core import audio
from accomp.core.errors import DataError
from accomp.core.interfaces import Corpus
from accomp.core.runner.excerpts import Excerpt, Failure, choose, partner
from accomp.core.runner.train import TRAIN
from accomp.core.spec import Spec
from accomp.core.types import Take

NO_PARTNER = "no partner: no other held-out song has a sounding stem of this instrument class"


@frozen
class TakeClip:
    """A take of the model, in its folder. `made_from` says what it depends on."""

    id: str
    folder: Path
    instrument: int
    made_from: str

    def load(self, rate: int) -> Take:
        """At `rate` Hz. Raises DataError for a file that cannot be read."""
        context, stem, true = (audio.read(self.folder / f"{name}.wav", rate) for name in ("context", "stem", "true"))
        return Take(self.id, context, stem, rate, self.instrument, true)

    def identity(self) -> Any:
        """What its sound depends on, JSON-able."""
        return [self.id, self.made_from, *(_stat(self.folder / f"{name}.wav") for name in ("context", "stem"))]


@frozen
class SongClip:
    """The context of one excerpt, and the stem of the same or another one."""

    id: str
    context: Excerpt
    stem: Excerpt

    @property
    def instrument(self) -> int:
        """Class of the stem that belongs there."""
        return self.context.instrument

    def load(self, rate: int) -> Take:
        """At `rate` Hz. Raises DataError for a file that cannot be read."""
        context, truth = self.context.context_audio(rate), self.context.stem_audio(rate)
        stem = truth if self.stem is self.context else self.stem.stem_audio(rate)
        return Take(self.id, context, stem, rate, self.instrument, truth)

    def identity(self) -> Any:
        """What its sound depends on, JSON-able."""
        stems = [self.context.track.stems[name] for name in self.context.context]
        stems.append(self.stem.track.stems[self.stem.target])
        paths = [path for stem in stems for path in stem.files]
        return [self.id, self.context.start, self.stem.start, *map(_stat, paths)]


@frozen
class Cell:
    """Clips that are judged as one.

    Attributes:
        left_out: clips that belong here and could not be had, with the reason.
    """

    name: str
    title: str
    clips: tuple[TakeClip | SongClip, ...]
    left_out: tuple[Failure, ...] = ()

    def identity(self) -> str:
        """A hash that changes when any of its clips may sound different."""
        clips = [self.name, [clip.identity() for clip in self.clips]]
        return hashlib.sha256(json.dumps(clips).encode()).hexdigest()


def take_cell(run: Path, made: dict[str, Any]) -> Cell:
    """The takes that `made`, the content of takes.json, lists. Raises DataError where one is gone."""
    clips = []
    for id in made["takes"]:
        folder = run / "takes" / id
        try:
            record = json.loads((folder / "take.json").read_text(encoding="utf-8"))
            made_from = json.dumps(record["made_from"], sort_keys=True)
            clips.append(TakeClip(id, folder, record["instrument"], made_from))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"take '{id}' is gone or broken ({error}); run `accomp generate SPEC` @ {folder}"
            ) from error
    return Cell("model", "model", tuple(clips), tuple(Failure(**failed) for failed in made["failed"]))


def anchor_cells(spec: Spec, corpus: Corpus) -> tuple[Cell, Cell]:
    """The true stem, and another song's stem of the same instrument class, for the takes' clips and further ones.

    The further clips come from all splits but the one trained on. A clip is never paired with its own song.
    """
    home = spec.generate.split
    splits = [home, *(split for split in corpus.splits if split not in (home, TRAIN))]
    tracks = {split: list(corpus.tracks(split)) for split in splits}
    named: dict[str, list[tuple[str, Excerpt]]] = {}
    failures: list[Failure] = []
    for split in splits:
        found, failed = choose(tracks[split], spec.evaluate.anchors, spec.generate.seconds, spec.seed, spec.pairs)
        prefix = "" if split == home else f"{split}: "
        named[split] = [(f"{prefix}{excerpt.id}", excerpt) for excerpt in found]
        failures += [Failure(f"{prefix}{failure.clip}", failure.reason) for failure in failed]
    chosen = _takes_first(list(named.values()), spec.generate.takes)[: spec.evaluate.anchors]
    everything = list(chain.from_iterable(tracks.values()))
    true = tuple(SongClip(id, excerpt, excerpt) for id, excerpt in chosen)
    pairs, lonely = [], []
    for id, excerpt in chosen:
        other = partner(excerpt, everything, spec.seed, spec.pairs)
        if other is None:
            lonely.append(Failure(id, NO_PARTNER))
        else:
            pairs.append(SongClip(id, excerpt, other))
    return (
        Cell("true_stem", "true stem", true, tuple(failures)),
        Cell("random_pairing", "random pairing", tuple(pairs), tuple(failures + lonely)),
    )


def _takes_first(lists: Sequence[list[tuple[str, Excerpt]]], takes: int) -> list[tuple[str, Excerpt]]:
    """The first `takes` of the first list, then one of each list in turn."""
    turns = zip_longest(lists[0][takes:], *lists[1:])
    return lists[0][:takes] + [one for turn in turns for one in turn if one is not None]


def _stat(path: Path) -> list[Any]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{error.strerror} @ {path}") from error
    return [path.name, stat.st_size, stat.st_mtime_ns]
