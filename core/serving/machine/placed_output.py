"""Placed output between the model's thread and the callback of a sound device: what is played when, and counted.

The rules are those of core/realtime/audio_bridge.py, and of the page's schedule.js: a sample that is not there at its
place is missing and concealed; one that comes after its place is dropped.
"""

from __future__ import annotations

import numpy as np

from accomp.core.realtime.concealment import GapConcealer

FADE = 0.005
"""Seconds of the fade to silence and back."""
CAPACITY = 4.0
"""Seconds of output that may be there ahead."""
MOST_RANGES = 500


class PlacedSamples:
    """Samples by their places: one thread writes, one reads, neither waits. A sample counts as there once its place is
    written, which is after the sample.
    """

    def __init__(self, capacity: int):
        self._samples = np.zeros(capacity, np.float32)
        self._places = np.full(capacity, -1, np.int64)
        self.written = 0
        """The place after the last one written."""

    def write(self, place: int, samples: np.ndarray) -> None:
        """Write samples [n] from a place on; of more than the capacity the last."""
        end = place + len(samples)
        samples = samples[-len(self._samples) :]
        places = np.arange(end - len(samples), end)
        at = places % len(self._samples)
        self._samples[at] = samples
        self._places[at] = places
        self.written = end

    def read(self, place: int, out: np.ndarray) -> int:
        """Copy to out [n] the samples from a place on, as far as they are there -> their number."""
        places = np.arange(place, place + len(out))
        at = places % len(self._samples)
        there = self._places[at] == places
        count = len(out) if there.all() else int(there.argmin())
        out[:count] = self._samples[at[:count]]
        return count

    def clear(self) -> None:
        """Forget all."""
        self._places[:] = -1


class PlacedOutput:
    """Output of one session at a device, in its places.

    Attributes:
        place: after the last one read.
        delivered, missing, gaps: samples played in time, samples that were not there, runs of them.
        late, dropped: chunks with a missing sample, samples that came after their place.
    """

    def __init__(self, rate: int, block: int, *, chunk: int, now: int, begin: int):
        """rate: Hz; others in samples. chunk: of the model's output. now: the place being read. begin: the one from
        which output is expected.
        """
        self.place, self._chunk, self._begin = now, chunk, max(now, begin)
        self._ring = PlacedSamples(round(CAPACITY * rate))
        self._concealer = GapConcealer(min(block, max(1, round(FADE * rate))), block)
        self._silent, self._late_up_to = True, 0
        self.delivered = self.missing = self.gaps = self.late = self.dropped = 0
        self._margin: int | None = None
        self._ranges: list[list[int]] = []

    def put(self, place: int, samples: np.ndarray) -> None:
        """Add output (model's thread)."""
        margin = place - self.place
        self._margin = margin if self._margin is None else min(self._margin, margin)
        self.dropped += min(len(samples), max(0, -margin))
        self._ring.write(place, samples)

    def exchange(self, place: int, out: np.ndarray) -> None:
        """out [block] becomes the output from a place on (callback). Places that are passed over are not counted."""
        there = self._ring.read(place, out)
        end = place + len(out)
        self.delivered += max(0, place + there - max(self._begin, place))
        begin = max(self._begin, place + there)
        if begin < end:
            self._count(begin, end, begins=there > 0 or not self._silent or begin == self._begin)
        self._silent = there < len(out)
        self._concealer.fill(out, there)
        self.place = end

    def clear(self) -> None:
        """Drop all output that is there."""
        self._ring.clear()

    def news(self) -> dict[str, object]:
        """Counters, and what is new since the last call, as the page counts: places, samples, [begin, end)."""
        ranges, self._ranges = self._ranges[:MOST_RANGES], self._ranges[MOST_RANGES:]
        margin, self._margin = self._margin, None
        return {
            "place": self.place, "delivered": self.delivered, "missing": self.missing, "gaps": self.gaps,
            "late": self.late, "dropped": self.dropped, "buffered": max(0, self._ring.written - self.place),
            "leastMargin": margin, "ranges": ranges,
        }  # fmt: skip

    def _count(self, begin: int, end: int, *, begins: bool) -> None:
        self.missing += end - begin
        self.gaps += begins
        first = max(self._late_up_to, (begin - self._begin) // self._chunk)
        self._late_up_to = (end - 1 - self._begin) // self._chunk + 1
        self.late += max(0, self._late_up_to - first)
        if self._ranges and self._ranges[-1][1] == begin:
            self._ranges[-1][1] = end
        else:
            self._ranges.append([begin, end])
