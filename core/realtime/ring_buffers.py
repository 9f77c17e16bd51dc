"""Lock-free ring buffers of audio between two threads: one writes, one reads, and neither ever waits.

Every index is written by one side only, and only after its samples, so that no lock is needed. All audio memory is
allocated at the start.
"""

from __future__ import annotations

import numpy as np


class BlockFifo:
    """A FIFO of blocks of samples, each with the place of its first sample."""

    def __init__(self, blocks: int, size: int):
        """Capacity: `blocks` blocks of `size` samples."""
        self._samples = np.zeros((blocks, size), dtype=np.float32)
        self._places = np.zeros(blocks, dtype=np.int64)
        self._put = 0  # blocks put since the beginning; of the writer
        self._got = 0  # blocks got since the beginning; of the reader

    def __len__(self) -> int:
        """Number of blocks to be read."""
        return self._put - self._got

    def put(self, place: int, samples: np.ndarray) -> bool:
        """Copy a block [size] (writer); False, without effect, if the buffer is full."""
        if self._put - self._got == len(self._places):
            return False
        slot = self._put % len(self._places)
        self._samples[slot] = samples
        self._places[slot] = place
        self._put += 1
        return True

    def get(self) -> tuple[int, np.ndarray] | None:
        """Return a copy of the oldest block and its place (reader); None if there is none."""
        if self._put == self._got:
            return None
        slot = self._got % len(self._places)
        place, samples = int(self._places[slot]), self._samples[slot].copy()
        self._got += 1
        return place, samples


class SampleRing:
    """Samples written contiguously from place 0 on, each to be read at its place or never.

    Attributes:
        written: the place after the last sample written; of the writer.
        past: the place before which all samples have been read or missed; of the reader.
    """

    def __init__(self, capacity: int, past: int = 0):
        """Capacity: `capacity` samples from `past` on."""
        self._samples = np.zeros(capacity, dtype=np.float32)
        self.written = 0
        self.past = past

    def write(self, samples: np.ndarray) -> int:
        """Write as many of the samples as fit (writer), and return how many; those of the past do."""
        past = self.past
        late = min(max(0, past - self.written), len(samples))
        first = self.written + late
        count = min(len(samples) - late, past + len(self._samples) - first)
        start = first % len(self._samples)
        head = min(count, len(self._samples) - start)
        self._samples[start : start + head] = samples[late : late + head]
        self._samples[: count - head] = samples[late + head : late + count]
        self.written = first + count
        return late + count

    def read(self, place: int, out: np.ndarray) -> int:
        """Copy to out [n] the contiguous samples from `place` on (reader), and return how many.

        All places before place + n are then past. `place` never goes back.
        """
        count = min(max(0, self.written - place), len(out))
        start = place % len(self._samples)
        head = min(count, len(self._samples) - start)
        out[:head] = self._samples[start : start + head]
        out[head:count] = self._samples[: count - head]
        self.past = place + len(out)
        return count
