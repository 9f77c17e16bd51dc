"""How many sessions a machine holds: the ladder of batch sizes, each measured with all that a tick does."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from attrs import field, frozen

from accomp.core.realtime.warmup import RHO
from accomp.core.runs.player import Player
from accomp.core.serving.frames import HEARD, Frame, decoded, encoded
from accomp.core.serving.playing.hearing import Hearing
from accomp.core.serving.playing.runs import slots_of
from accomp.core.serving.playing.sounding import Sounding
from accomp.core.streaming.audio_batch import AudioSessionBatch

LADDER = (1, 2, 4, 8, 16, 32, 64)
TICKS, WARM = 200, 20
PAGE_RATE, PAGE_FRAME = 48_000, 0.01
SOCKET = 60e-6
"""Seconds that the sockets' thread takes for a frame in and one out, beside what is measured."""


@frozen
class Capacity:
    """How many sessions of some runs a machine holds.

    Attributes:
        fits: the greatest number of sessions whose ticks take RHO of the time at most; 0: not even the least.
        shares: sessions -> the share of the time that their ticks took, p99.9.
        slots: those for `fits` sessions, or for the least that was tried.
    """

    fits: int
    shares: Mapping[int, float]
    slots: Mapping[str, AudioSessionBatch] | None = field(default=None, repr=False)

    def describe(self) -> str:
        """In words."""
        shares = ", ".join(f"{batch}: {share:.0%}" for batch, share in self.shares.items())
        return f"{self.fits} sessions fit; share of the time that ticks take (p99.9), {RHO:.0%} at most: {shares}"


def measured_capacity(
    players: Mapping[str, Player], ladder: Sequence[int], doing: Callable[[str], None] = lambda text: None
) -> Capacity:
    """Climb until the ticks take more than RHO of the time. All runs tick one after the other, each with all slots."""
    fits, shares, kept = 0, {}, None
    for batch in ladder:
        gc.collect()
        made = {name: slots_of(player, batch) for name, player in players.items()}
        shares[batch] = sum(share_of(slots) for slots in made.values())
        doing(f"{batch} sessions take {shares[batch]:.0%} of the time")
        if shares[batch] > RHO:
            kept = kept or made
            break
        fits, kept = batch, made
    return Capacity(fits, shares, kept)


def share_of(slots: AudioSessionBatch, ticks: int = TICKS) -> float:
    """The share of the time that ticks with every slot taken need, p99.9. Ends what plays there."""
    while slots.free:
        slots.join()
    traffic = Traffic(slots)
    took = [traffic.tick() for _ in range(WARM + ticks)][WARM:]
    for slot in slots.taken:
        slots.leave(slot)
    period = slots.hop / slots.space.sample_rate
    frames = len(slots.places) * period / PAGE_FRAME
    return (float(np.quantile(took, 0.999)) + frames * SOCKET) / period


class Traffic:
    """What pages send to every slot, and what goes back, without the sockets."""

    def __init__(self, slots: AudioSessionBatch):
        rate = slots.space.sample_rate
        self._slots = slots
        self._hearing = {slot: Hearing(PAGE_RATE, rate, varies=True) for slot in slots.taken}
        self._sounding = {slot: Sounding(rate, PAGE_RATE, varies=True) for slot in slots.taken}
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, round(PAGE_FRAME * PAGE_RATE))
        self._sound = noise.astype(np.float32)
        for sounding in self._sounding.values():
            sounding.begin(0, 0)

    def tick(self) -> float:
        """Seconds of one."""
        began = time.perf_counter()
        heard = {}
        for slot, hearing in self._hearing.items():
            while hearing.available < self._slots.hop:
                message = encoded(Frame(HEARD, self._next(hearing), self._sound), "f32")
                hearing.absorb([decoded(message, "f32")])
            heard[slot] = hearing.take(self._slots.hop)
        for slot, (_, sound) in self._slots.step(heard).items():
            frame = self._sounding[slot].frame(sound)
            if frame is not None:
                encoded(frame, "f32")
        return time.perf_counter() - began

    def _next(self, hearing: Hearing) -> int:
        return 0 if hearing.first is None else hearing.next_place
