"""Codecs side by side on the same stretches of the same music: every figure with its interval, and players."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
import torch
from attrs import field, frozen
from torch import Tensor

from accomp.plugin import Advance, Tokenizer, TokenSpace
from accomp.plugin.metrics import Pair
from accomp.plugins.tokenizers.codec.files.resolve import NamedCodec
from accomp.plugins.tokenizers.codec.quality.embedded import ExcerptEmbedder, distances, listening_gain, vectors
from accomp.plugins.tokenizers.codec.quality.excerpts import FILES, MIXES, Music, Stretch
from accomp.plugins.tokenizers.codec.quality.intervals import Figure, figure, ratio
from accomp.plugins.tokenizers.codec.quality.measures import (
    CodecScorer,
    ExcerptScores,
    figures,
    nominal_bitrate,
    silence_db,
)
from accomp.plugins.tokenizers.codec.quality.predictability import Prediction
from accomp.plugins.tokenizers.codec.quality.speed import streamed_rtf
from accomp.plugins.tokenizers.codec.streams.codec import FrozenCodec

STEMS = "All stems"
"""The group of all instrument classes together."""
PUSHES = (1, 25)
"""Frames a push at which streaming is timed."""
_TIMED = 2.0  # seconds of sound


@frozen(eq=False)
class DecodedStretch:
    """A stretch of an excerpt, original and decoded by every codec: (samples [N], rate in Hz), levels unchanged."""

    group: str
    name: str
    start: float
    original: tuple[np.ndarray, int]
    decoded: dict[str, tuple[np.ndarray, int]] = field(factory=dict)

    def for_listening(self) -> DecodedStretch:
        """Apply one gain to all sounds, so that levels compare: original at LISTENING_LUFS, no peak over PEAK."""
        sound, rate = self.original
        gain = listening_gain(sound, rate, [one for one, _ in self.decoded.values()])
        turned = {label: (gain * one, its_rate) for label, (one, its_rate) in self.decoded.items()}
        return attrs.evolve(self, original=(gain * sound, rate), decoded=turned)


class Candidate(Protocol):
    """What is compared: a codec (NamedCodec) or a change of the sound without codes (Calibration).

    Attributes:
        label: name on the page.
        sample_rate: of its output, in Hz.
        delay: samples at the end of its output that are incomplete.
    """

    @property
    def label(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def delay(self) -> int: ...

    def score(self, excerpt: Stretch, music: Music) -> tuple[ExcerptScores, Tensor]:
        """Scores of an excerpt, and the output [N]."""
        ...


@frozen(eq=False)
class _Coded:
    """A codec as a candidate."""

    label: str
    space: TokenSpace
    scorer: CodecScorer

    @property
    def sample_rate(self) -> int:
        return self.space.sample_rate

    @property
    def delay(self) -> int:
        return self.space.delay

    def score(self, excerpt: Stretch, music: Music) -> tuple[ExcerptScores, Tensor]:
        return self.scorer(excerpt.read(self.sample_rate), excerpt.name)


def compare(
    codecs: Sequence[NamedCodec],
    music: Music,
    advance: Advance,
    hearing: ExcerptEmbedder,
    *,
    calibration: Sequence[Candidate] = (),
    predictions: Mapping[str, Prediction] | None = None,
    players: int = 0,
    listen: float = 4.0,
) -> tuple[dict[str, Any], list[DecodedStretch]]:
    """The record of a comparison, JSON-able, and `players` stretches of each group to listen to, of `listen` s each.

    `advance` is called for each excerpt of each codec and calibration. Calibrations have players of mixes
    and files only. `predictions`: trained predictor of each codec's codes, by label.
    """
    heard = {index: _original(music.excerpts[index], codecs, listen) for index in _first(music, players)}
    whole = {index: one for index, one in heard.items() if one.group in (MIXES, FILES)}
    scores: dict[str, list[ExcerptScores]] = {}
    described, calibrated = [], []
    for one in codecs:
        coded = _Coded(one.label, one.codec.space, CodecScorer(one.codec))
        learnt = (predictions or {}).get(one.label)
        scores[one.label], results = _examine(coded, music, advance, hearing, heard, listen, coded.space, learnt)
        prediction = {} if learnt is None else {"prediction": _learnt(learnt, coded.space)}
        described.append({**_described(one, music), **prediction, **results})
    for candidate in calibration:
        _, results = _examine(candidate, music, advance, hearing, whole, listen)
        calibrated.append({"label": candidate.label, **results})
    groups = _groups(music)
    ratios = {
        group: [[_mel_ratio(scores[a.label], scores[b.label], indices) for b in codecs] for a in codecs]
        for group, indices in groups.items()
        if group in (MIXES, FILES, STEMS) and len(codecs) > 1
    }
    record = {
        "music": {
            "about": music.about,
            "excerpts": {group: len(indices) for group, indices in groups.items()},
            "songs": [attrs.asdict(song) for song in music.songs],
            "silent": list(music.silent),
            "failed": list(music.failed),
        },
        "embedding": {"provenance": hearing.embedder.provenance, "failed": dict(hearing.failed)},
        "made_with": {"torch": torch.__version__, "threads": torch.get_num_threads()},
        "codecs": described,
        "calibration": calibrated,
        "mel_ratios": ratios,
    }
    return record, list(heard.values())


def _examine(
    candidate: Candidate,
    music: Music,
    advance: Advance,
    hearing: ExcerptEmbedder,
    heard: dict[int, DecodedStretch],
    listen: float,
    space: TokenSpace | None = None,
    prediction: Prediction | None = None,
) -> tuple[list[ExcerptScores], dict[str, Any]]:
    """Scores of a candidate for each excerpt, and its figures; its output of some excerpts is added to `heard`."""
    scores: list[ExcerptScores] = []
    pairs: list[Pair | None] = []
    rate = candidate.sample_rate
    for index, excerpt in enumerate(music.excerpts):
        scored, decoded = candidate.score(excerpt, music)
        scores.append(scored)
        pairs.append(hearing.pair(excerpt, decoded[: len(decoded) - candidate.delay].numpy(), rate))
        if index in heard:
            begin, end = _stretch(len(decoded) / rate, listen)
            part = decoded.numpy()[round(begin * rate) : round(end * rate)]
            heard[index].decoded[candidate.label] = (part, rate)
        advance(1, note=f"{candidate.label}: {excerpt.group}, {excerpt.name}")
    return scores, _results(scores, pairs, music, space, prediction)


def _groups(music: Music) -> dict[str, list[int]]:
    """Group -> places of its excerpts; after mixes and files comes STEMS, then the classes."""
    each = {group: [i for i, one in enumerate(music.excerpts) if one.group == group] for group in music.groups}
    whole = {group: indices for group, indices in each.items() if group in (MIXES, FILES)}
    classes = {group: indices for group, indices in each.items() if group not in whole}
    together = {STEMS: sorted(i for indices in classes.values() for i in indices)} if classes else {}
    return {**whole, **together, **classes}


def _described(one: NamedCodec, music: Music) -> dict[str, Any]:
    """Description of a codec, with the figures that do not depend on the music."""
    codec = one.codec
    return {
        "label": one.label,
        "plugin": one.plugin,
        "config": one.config,
        "fingerprint": codec.fingerprint,
        "parameters": _parameters(codec),
        "space": attrs.asdict(codec.space),
        "bitrate": nominal_bitrate(codec),
        "silence_db": silence_db(codec),
        "silence_after_sound_db": silence_db(codec, music.excerpts[0].read(codec.space.sample_rate)),
        "streamed_rtf": {str(frames): streamed_rtf(codec, frames, _TIMED) for frames in PUSHES},
    }


def _learnt(prediction: Prediction, space: TokenSpace) -> dict[str, Any]:
    return {
        "uniform": math.log(space.codebook_size),
        "seconds": round(prediction.seconds, 3),
        "steps": prediction.steps,
        "context": prediction.context,
        "parameters": sum(p.numel() for p in prediction.predictor.parameters()),
    }


def _parameters(codec: Tokenizer) -> int | None:
    """Number of trained parameters, where the codec's network is available."""
    return sum(p.numel() for p in codec.network.parameters()) if isinstance(codec, FrozenCodec) else None


def _results(
    scores: Sequence[ExcerptScores],
    pairs: Sequence[Pair | None],
    music: Music,
    space: TokenSpace | None,
    prediction: Prediction | None,
) -> dict[str, Any]:
    groups = {}
    for group, indices in _groups(music).items():
        these, points = [scores[i] for i in indices], [pairs[i] for i in indices]
        found = {**distances(points), **figures(these, space)}
        if prediction is not None:
            found |= prediction.figures([one.codes for one in these if one.codes is not None])
        groups[group] = {
            "excerpts": len(these),
            "seconds": round(sum(one.seconds for one in these), 3),
            "frames": sum(one.frames for one in these),
            "vectors": vectors(points),
            "figures": {name: attrs.asdict(one) for name, one in found.items()},
        }
    each = [
        {"group": excerpt.group, "name": excerpt.name, "start": round(excerpt.start, 3), **one.numbers}
        for excerpt, one in zip(music.excerpts, scores, strict=True)
    ]
    return {"groups": groups, "each": each}


def _mel_ratio(
    above: Sequence[ExcerptScores], below: Sequence[ExcerptScores], indices: Sequence[int]
) -> Mapping[str, Any]:
    """Mean mel distance of one codec over that of another, on the same excerpts, drawn together."""
    a, b = (np.array([scores[i].numbers["mel"] for i in indices]) for scores in (above, below))
    found: Figure = figure(ratio(a, b), len(indices))
    return attrs.asdict(found)


def _first(music: Music, n: int) -> list[int]:
    """Places of the first n excerpts of each group."""
    return [
        i
        for group in music.groups
        for i in [place for place, one in enumerate(music.excerpts) if one.group == group][:n]
    ]


def _original(excerpt: Stretch, codecs: Sequence[NamedCodec], listen: float) -> DecodedStretch:
    """The middle of an excerpt at the highest of the codecs' rates."""
    rate = max(one.codec.space.sample_rate for one in codecs)
    sound = excerpt.read(rate).numpy()
    begin, end = _stretch(len(sound) / rate, listen)
    part = sound[round(begin * rate) : round(end * rate)]
    return DecodedStretch(excerpt.group, excerpt.name, excerpt.start + begin, (part, rate))


def _stretch(length: float, seconds: float) -> tuple[float, float]:
    """Begin and end (s) of the middle of a sound."""
    begin = max(0.0, (length - seconds) / 2)
    return begin, min(length, begin + seconds)
