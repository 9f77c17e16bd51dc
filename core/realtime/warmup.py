"""Warm-up before real-time playing: a short session that measures this machine, and its latency budget."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import evolve, frozen

from accomp.core.clock import LatencyBudget, block_waits
from accomp.core.generation.latency import budget_of, part_times
from accomp.core.music.timelines import NO_TIMELINES, Source
from accomp.core.realtime.audio_bridge import IDLE
from accomp.core.runs.player import Player, check_streams
from accomp.core.runs.run import play

RHO = 0.7
"""Share of real time that the model may take: with less headroom a late step is never caught up."""

FRAMES = 300
CHUNKS = 4
"""Minimum frames and chunks of a warm-up."""


@frozen
class WarmUp:
    """Measurements of a warm-up and the resulting budget.

    Attributes:
        block, pieces: samples of a block, and number of blocks.
        whole: seconds from a block in to its output, of the blocks with which frames came.
    """

    budget: LatencyBudget
    block: int
    pieces: int
    whole: np.ndarray

    def describe(self) -> str:
        """Summarise the measurement in one line."""
        median, rare, most = 1000 * np.quantile(self.whole, [0.5, 0.999, 1.0])
        piece = 1000 * self.block / self.budget.space.sample_rate
        return (
            f"warmed up with {self.pieces} blocks of {piece:g} ms, back to back; the {len(self.whole)}  "
            f"with output took {median:.1f} ms (median), {rare:.1f} ms (99.9th percentile, with so few all "
            f"but the longest), {most:.1f} ms at most"
        )


def live_budget(budget: LatencyBudget, block: int, waits: tuple[float, float] = (0.0, 0.0)) -> LatencyBudget:
    """Latency budget of real-time playing in blocks of `block` samples; `waits` as for `measure_latency`."""
    before_input, before_output = block_waits(budget.space, block)
    return evolve(budget, input=before_input + waits[0] + IDLE, output=before_output + waits[1], rho=RHO)


def measure_latency(
    player: Player,
    block: int,
    *,
    labels: Mapping[str, int],
    waits: tuple[float, float] = (0.0, 0.0),
    timelines: Mapping[str, Source] = NO_TIMELINES,
) -> WarmUp:
    """Run on noise, `block` samples at a time, after a few warm-up chunks; the latency budget of real-time playing.

    waits: latency of a sound device before the model's input and after its output (s). timelines: `told` of
    `play`; followers take time.
    """
    clock, space = check_streams(player), player.tokenizer.space

    def pieces(frames: int) -> int:
        return -(-frames * space.hop // block)

    noise = np.random.default_rng(0).uniform(-0.1, 0.1, block * pieces(max(FRAMES, CHUNKS * clock.k)))
    sound = noise.astype(np.float32)
    warm = block * pieces(2 * clock.k + max(0, clock.t_f) + 8)
    play(player, sound[:warm], [block] * pieces(FRAMES), labels=labels, seed=0, session=0, timelines=timelines)
    played = play(player, sound, [block] * (len(sound) // block), labels=labels, seed=0, session=0, timelines=timelines)
    budget = live_budget(budget_of(clock, space, [part_times(played, clock)]), block, waits)
    came = np.asarray(played.frames) > 0
    return WarmUp(budget, block, len(came), np.asarray(played.whole)[came if came.any() else ~came])
