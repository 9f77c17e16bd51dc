"""Clips of music for codec training: random excerpts of the audio files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from accomp.plugin import DataError
from accomp.plugin.sound import io as audio
from accomp.plugins.tokenizers.codec.music.files import matching


class Music(Protocol):
    """Source of clips: Clips, ResidentClips, or a wrapper."""

    def draw(
        self, n: int, seconds: float, rate: int, rng: torch.Generator, skip: Callable[[Path, str], None]
    ) -> Tensor:
        """n clips [n, seconds * rate]; `rng` is a generator of the CPU, `skip` receives unreadable files."""
        ...


@frozen
class Clips:
    """The usable audio files under a folder, their lengths in s, and the first of the patterns that each matches.

    `skipped`: reasons for skipped files.
    """

    files: tuple[Path, ...]
    seconds: tuple[float, ...]
    patterns: tuple[int, ...]
    skipped: dict[Path, str]

    @classmethod
    def find(cls, root: Path, patterns: Sequence[str], shortest: float) -> Clips:
        """Files under `root` that match any of the glob `patterns`, in sorted order, and last `shortest` s or more.

        Raises DataError for a missing folder or one without usable files.
        """
        if not root.is_dir():
            raise DataError(f"no such folder @ {root}; give [data] root the folder that holds the training music")
        found = matching(root, patterns)
        files, seconds, skipped = [], [], {}
        for path in sorted(found):
            try:
                samples, rate = audio.duration(path)
            except DataError as error:
                skipped[path] = str(error)
                continue
            if samples < shortest * rate:
                skipped[path] = f"{samples / rate:.2f} s, shorter than a clip of {shortest} s @ {path}"
                continue
            files.append(path)
            seconds.append(samples / rate)
        if not files:
            why = "; ".join(list(skipped.values())[:3]) or "no file matches"
            raise DataError(f"no usable audio for the patterns {list(patterns)} @ {root}: {why}")
        return cls(tuple(files), tuple(seconds), tuple(found[path] for path in files), skipped)

    def draw(
        self, n: int, seconds: float, rate: int, rng: torch.Generator, skip: Callable[[Path, str], None]
    ) -> Tensor:
        """n random clips [n, seconds * rate], drawn in proportion to file length, a quarter of them mixes.

        A digitally silent clip is drawn again, at most four times. `skip` receives unreadable files.
        """
        weights = torch.tensor(self.seconds)
        clips = [self._clip(weights, seconds, rate, rng, skip) for _ in range(n)]
        for i in range(n // 4):
            clips[i] = 0.7 * (clips[i] + clips[n - 1 - i])
        return torch.stack(clips)

    def _clip(
        self, weights: Tensor, seconds: float, rate: int, rng: torch.Generator, skip: Callable[[Path, str], None]
    ) -> Tensor:
        clip = None
        for _ in range(100):
            i = int(torch.multinomial(weights, 1, generator=rng))
            start = float(torch.rand((), generator=rng)) * (self.seconds[i] - seconds)
            try:
                samples = audio.read(self.files[i], rate, start=start, seconds=seconds)
            except DataError as error:
                skip(self.files[i], str(error))
                weights[i] = 0
                if not weights.any():
                    raise DataError(
                        f"not one of {len(self.files)} audio files can be read; the last: {error}"
                    ) from error
                continue
            length = round(seconds * rate)
            clip = torch.from_numpy(np.pad(samples, (0, max(0, length - len(samples))))[:length])
            if clip.abs().amax() > 1e-3 or torch.rand((), generator=rng) < 0.1:
                return clip
        return clip if clip is not None else torch.zeros(round(seconds * rate))
