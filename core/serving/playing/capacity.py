"""Capacity of a machine in sessions: increasing batch sizes, each measured with all the work of a tick."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from attrs import field, frozen

from accomp.core.realtime.warmup import RHO
from accomp.core.runs.player import Player
from accomp.core.serving.playing.input_stream import InputStream
from accomp.core.serving.playing.output_stream import OutputStream
from accomp.core.serving.playing.runs import slots_of
from accomp.core.serving.protocol.frames import HEARD, Frame, decode, encode
from accomp.core.streaming.audio_batch import AudioSessionBatch

LADDER = (1, 2, 4, 8, 16, 32, 64)
TICKS, WARM = 200, 20
PAGE_RATE, PAGE_FRAME = 48_000, 0.01
SOCKET = 60e-6
"""Seconds that the event loop needs for a frame in and one out, in addition to the measured work."""


@frozen
class Capacity:
    """Number of sessions of some runs that a machine sustains.

    Attributes:
        fits: the largest number of sessions whose ticks take at most RHO of the time; 0 if none does.
        shares: sessions -> share of the time that their ticks seconds, p99.9.
        slots: those for `fits` sessions, or for the smallest number tried.
    """

    fits: int
    shares: Mapping[int, float]
    slots: Mapping[str, AudioSessionBatch] | None = field(default=None, repr=False)

    def describe(self) -> str:
        """Summarise in one line."""
        shares = ", ".join(f"{batch}: {share:.0%}" for batch, share in self.shares.items())
        return f"{self.fits} sessions fit; share of the time that ticks take (p99.9), {RHO:.0%} at most: {shares}"


def measure_capacity(
    players: Mapping[str, Player], ladder: Sequence[int], report: Callable[[str], None] = lambda text: None
) -> Capacity:
    """Increase the batch until the ticks take more than RHO of the time. All runs tick in turn, each with all slots."""
    fits, shares, best = 0, {}, None
    for batch in ladder:
        gc.collect()
        batches = {name: slots_of(player, batch) for name, player in players.items()}
        shares[batch] = sum(share_of(slots) for slots in batches.values())
        report(f"{batch} sessions take {shares[batch]:.0%} of the time")
        if shares[batch] > RHO:
            best = best or batches
            break
        fits, best = batch, batches
    return Capacity(fits, shares, best)


def share_of(slots: AudioSessionBatch, ticks: int = TICKS) -> float:
    """Share of the time that ticks with all slots taken need, p99.9. Ends all sessions in the slots."""
    while slots.free:
        slots.join()
    traffic = Traffic(slots)
    seconds = [traffic.tick() for _ in range(WARM + ticks)][WARM:]
    for slot in slots.taken:
        slots.leave(slot)
    period = slots.hop / slots.space.sample_rate
    frames = len(slots.places) * period / PAGE_FRAME
    return (float(np.quantile(seconds, 0.999)) + frames * SOCKET) / period


class Traffic:
    """Simulated traffic of pages in every slot, in both directions, without sockets."""

    def __init__(self, slots: AudioSessionBatch):
        rate = slots.space.sample_rate
        self._slots = slots
        self._inputs = {slot: InputStream(PAGE_RATE, rate, varies=True) for slot in slots.taken}
        self._outputs = {slot: OutputStream(rate, PAGE_RATE, varies=True) for slot in slots.taken}
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, round(PAGE_FRAME * PAGE_RATE))
        self._sound = noise.astype(np.float32)
        for stream in self._outputs.values():
            stream.begin(0, 0)

    def tick(self) -> float:
        """Run one tick; returns its seconds."""
        began = time.perf_counter()
        x = {}
        for slot, stream in self._inputs.items():
            while stream.available < self._slots.hop:
                message = encode(Frame(HEARD, self._next(stream), self._sound), "f32")
                stream.absorb([decode(message, "f32")])
            x[slot] = stream.take(self._slots.hop)
        for slot, (_, sound) in self._slots.step(x).items():
            frame = self._outputs[slot].frame(sound)
            if frame is not None:
                encode(frame, "f32")
        return time.perf_counter() - began

    def _next(self, stream: InputStream) -> int:
        return 0 if stream.first is None else stream.next_place
