"""Batches of token clips from the store: every pair of mixture and target, cut into windows, in random order.

The order is a function of the seed alone, so a resumed run continues with exactly the clips that come next.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from attrs import frozen

from accomp.core.console import warn
from accomp.core.data.labels import ClassLabels, check
from accomp.core.data.song_timelines import SongTimelines
from accomp.core.data.stored_songs import (
    Pair,
    check_rules,
    named_pair,
    open_store,
    store_warnings,
    target_labels,
    tracks_of,
    windows_of,
)
from accomp.core.errors import DataError
from accomp.core.interfaces import Tokenizer
from accomp.core.model.conditions import LabelCondition, TimelineCondition
from accomp.core.spec.pairs import PairRules
from accomp.core.types import CodeBatch
from accomp.zarr_store import layout


@frozen
class Clip:
    """Frames [start, start + frames) of a pair; fewer than requested only where the whole song is shorter."""

    pair: Pair
    start: int
    frames: int


class ClipLoader:
    """An endless iterator over clips of `frames` frames of one split, as CodeBatch; epochs are random permutations.

    The rules of core/spec/pairs.py define where windows begin and which are kept. A song shorter than a window is
    padded and marked in `valid`. No clip holds frames of two songs.

    Attributes:
        rejected: reason -> number of rejected windows.
    """

    def __init__(
        self,
        path: str | Path,
        split: str,
        tokenizer: Tokenizer,
        *,
        frames: int,
        batch: int,
        seed: int = 0,
        rules: PairRules | None = None,
        labels: Mapping[str, LabelCondition] | None = None,
        timelines: Mapping[str, TimelineCondition] | None = None,
        rank: int = 0,
        world: int = 1,
        pin: bool = False,
    ):
        """Open the store and index its windows.

        labels, timelines: conditions of the batches. batch: clips per rank. rules: the defaults of [pairs] where not
        given. rank, world: each of the `world` processes of a run gets different clips. pin: page-locked tensors, for a
        GPU.

        Raises DataError where no window is left (with the counts), for a store whose pairs were made by other rules,
        for labels that the store does not have and values that are none of their classes, for timelines without any
        annotations, and as `open_store`.
        """
        self._frames, self._batch, self._seed = frames, batch, seed
        self._rank, self._world, self._pin = rank, world, pin
        self._rules = rules or PairRules()
        self._store = open_store(path, tokenizer)
        check_rules(self._store, self._rules)
        self._space = tokenizer.space
        self._tracks = tracks_of(self._store, split)
        self._labels = self._labelling(labels or {})
        songs = [track.record.annotations for track in self._tracks]
        self._telling = SongTimelines(songs, timelines or {}, tokenizer.space.frame_rate, str(self._store.path))
        self.rejected: Counter[str] = Counter()
        self._index = np.concatenate([self._windows(number) for number in range(len(self._tracks))])
        if not len(self._index):
            seconds = frames / tokenizer.space.frame_rate
            longest = max(track.record.frames for track in self._tracks) / tokenizer.space.frame_rate
            raise DataError(
                f"no usable clip of {frames} frames ({seconds:g} s) in split {split!r}: {len(self._tracks)} tracks of "
                f"up to {longest:.1f} s, windows rejected: {self._reasons()}; take shorter clips or other "
                f"music @ {path}"
            )
        for line in store_warnings(self._store, self._tracks, split):
            warn(line)
        if not self._store.finished:
            warn(f"the ingest into {path} has not ended; split {split!r} has {len(self._tracks)} tracks so far")
        self._digest = self._hash()
        self._seen = 0  # clips consumed by all ranks together
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Count the clips of the split."""
        return len(self._index)

    def __getitem__(self, number: int) -> Clip:
        """Return a clip by its number, in the order of tracks, pairs and time."""
        track, pair, start = self._index[number]
        record = self._tracks[track].record
        return Clip(named_pair(record, record.pairs[pair]), int(start), min(self._frames, record.frames))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CodeBatch:
        first = self._seen + self._rank * self._batch
        numbers = [self._numbered(place) for place in range(first, first + self._batch)]
        self._seen += self._batch * self._world
        return self._assemble(numbers)

    def describe(self) -> str:
        """Describe the clips, and the rejected windows with the reasons."""
        rate = self._store.identity.space["sample_rate"] / self._store.identity.space["hop"]
        clips = f"{len(self)} clips of {self._frames / rate:g} s out of {len(self._tracks)} songs"
        return "\n".join([f"{clips}; windows not kept: {self._reasons()}", *self._telling.describe()])

    def label_counts(self) -> dict[str, Counter[str]]:
        """Count label -> class name -> clips, the most frequent first; clips without that label are not counted."""
        return self._labels.counts(self._index)

    def fixed(self, batches: int) -> Iterator[CodeBatch]:
        """Yield at most `batches` batches of clips that are the same each time, for any seed, divided among the ranks.

        Ends early where the split has fewer clips; the last batch is smaller then.
        """
        numbers = self._fixed_numbers(batches)
        for first in range(0, len(numbers), self._batch):
            yield self._assemble(numbers[first : first + self._batch])

    def fixed_clips(self, batches: int) -> list[Clip]:
        """List the clips of `fixed`, in its order."""
        return [self[number] for number in self._fixed_numbers(batches)]

    def _fixed_numbers(self, batches: int) -> list[int]:
        order = np.random.default_rng(0).permutation(len(self))[: batches * self._batch * self._world]
        return order[self._rank :: self._world].tolist()

    def state_dict(self) -> dict[str, Any]:
        """Return the read position, JSON-able."""
        return {"seen": self._seen, "seed": self._seed, "clips": len(self), "digest": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a read position. Raises DataError where the clips are not those of the state."""
        if (state["digest"], state["seed"]) != (self._digest, self._seed):
            raise DataError(
                f"the training data has changed since the checkpoint: {state['clips']} clips in the order of seed "
                f"{state['seed']} then, {len(self)} clips with seed {self._seed} now; restore the store, the seed and "
                f"the clip length, or begin a new run @ {self._store.path}"
            )
        self._seen = state["seen"]

    def unigram_entropy(self) -> np.ndarray:
        """Compute the entropy of the targets' codes, [K] nats: the loss of a predictor that knows the code frequencies.

        Each frame counts as often as it is in a clip.
        """
        counts = np.zeros((self._space.codebooks, self._space.codebook_size))
        for codes, weights in self._targets():
            for level, each in enumerate(codes.T):
                counts[level] += np.bincount(each, weights=weights, minlength=counts.shape[1])
        p = counts / counts.sum(axis=1, keepdims=True)
        return -(p * np.log(p, out=np.zeros_like(p), where=p > 0)).sum(axis=1)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute mean and variance of each channel of the targets' latents over all clips, [E] twice.

        Each frame counts as often as it is in a clip.
        """
        count, sums, squares = 0.0, np.zeros(self._space.latent_dim), np.zeros(self._space.latent_dim)
        for latents, weights in self._targets():
            values = latents.astype(np.float64)
            count += weights.sum()
            sums += weights @ values
            squares += weights @ values**2
        mean = sums / count
        return mean, np.maximum(squares / count - mean**2, 0.0)

    def _targets(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield each target's tokens [T, K or E], and the number of clips that contain each frame [T]."""
        coverage: dict[tuple[int, int], np.ndarray] = {}
        for track, pair, start in self._index.tolist():
            record = self._tracks[track].record
            row = (track, record.pairs[pair].target)
            steps = coverage.setdefault(row, np.zeros(record.frames + 1, dtype=np.int64))
            steps[start] += 1
            steps[min(start + self._frames, record.frames)] -= 1
        for (track, part), steps in coverage.items():
            yield self._tracks[track].codes(part), steps.cumsum()[:-1]

    def _windows(self, number: int) -> np.ndarray:
        """Return the kept windows of a track, [n, 3]: track, pair, start."""
        rows = []
        for place, (starts, rejected) in enumerate(windows_of(self._tracks[number], self._frames, self._rules)):
            self.rejected.update(rejected)
            rows.append(np.stack([np.full(len(starts), number), np.full(len(starts), place), starts], axis=1))
        return np.concatenate(rows) if rows else np.empty((0, 3), dtype=np.int64)

    def _reasons(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in self.rejected.items())

    def _labelling(self, conditions: Mapping[str, LabelCondition]) -> ClassLabels:
        songs = {track.record.id: target_labels(track.record) for track in self._tracks}

        def everywhere() -> list[dict[str, str]]:
            return [labels for record in self._store.records() for labels in target_labels(record)]

        check(songs, conditions, everywhere, where=str(self._store.path))
        return ClassLabels(songs, conditions)

    def _numbered(self, place: int) -> int:
        """Return the clip at a place of the endless order: one random permutation after another."""
        epoch, place = divmod(place, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._permutation(epoch)
        return int(self._order[place])

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self))

    def _assemble(self, numbers: list[int]) -> CodeBatch:
        shape = (len(numbers), self._frames, self._space.channels)
        context, target = (np.zeros(shape, np.float32 if self._space.continuous else np.int64) for _ in range(2))
        valid = np.zeros(shape[:2], dtype=bool)
        chosen = self._index[numbers]
        features: list[dict[str, np.ndarray]] = []
        for row, (track, place, start) in enumerate(chosen.tolist()):
            song = self._tracks[track]
            pair = song.record.pairs[place]
            stop = min(start + self._frames, song.record.frames)
            try:
                context[row, : stop - start] = song.codes(pair.context, start, stop)
                target[row, : stop - start] = song.codes(pair.target, start, stop)
            except layout.StoreError as error:
                raise DataError(str(error)) from error
            valid[row, : stop - start] = True
            features.append(self._telling.of(track, start, self._frames))
        return CodeBatch(
            context=self._tensor(context.transpose(0, 2, 1)),
            target=self._tensor(target.transpose(0, 2, 1)),
            valid=self._tensor(valid),
            labels={name: self._tensor(classes) for name, classes in self._labels.of(chosen).items()},
            timelines={name: self._tensor(np.stack([one[name] for one in features])) for name in features[0]}
            if features
            else {},
        )

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        return tensor.pin_memory() if self._pin else tensor

    def _hash(self) -> str:
        """Hash the audio of the tracks, the choice of windows, and the labels and timelines of the clips."""
        digest = hashlib.sha256(self._index.astype("<i8").tobytes())
        for track in self._tracks:
            digest.update("\0".join((track.record.id, *(file.sha256 for file in track.record.files))).encode())
        digest.update(self._labels.digest())
        digest.update(self._telling.digest())
        return digest.hexdigest()[:16]
