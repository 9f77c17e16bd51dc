"""Can this machine play this model live? A short session before the real one measures it, and the budget decides."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from attrs import evolve, frozen

from accomp.core.clock import LatencyBudget, block_waits
from accomp.core.generation.latency import budget_of, part_times
from accomp.core.music.timelines import NOT_TOLD, Source
from accomp.core.realtime.audio_bridge import IDLE
from accomp.core.runs.player import Player, check_streams
from accomp.core.runs.run import play

RHO = 0.7
"""The share of real time that playing may take: with less to spare a late step is never made up for."""

FRAMES = 300
CHUNKS = 4
"""A rehearsal has at least so many frames, and so many chunks."""


@frozen
class Rehearsal:
    """What was measured, and what follows.

    Attributes:
        block, pieces: samples of a piece, and how many there were.
        whole: seconds from a piece in to its sound out, of those pieces with which frames came.
    """

    budget: LatencyBudget
    block: int
    pieces: int
    whole: np.ndarray

    def describe(self) -> str:
        """One line for people."""
        median, rare, most = 1000 * np.quantile(self.whole, [0.5, 0.999, 1.0])
        piece = 1000 * self.block / self.budget.space.sample_rate
        return (
            f"rehearsed with {self.pieces} pieces of {piece:g} ms, one right after the other; the {len(self.whole)} "
            f"with which sound came took {median:.1f} ms (median), {rare:.1f} ms (99.9th percentile, with so few all "
            f"but the longest), {most:.1f} ms at most"
        )


def live_budget(budget: LatencyBudget, block: int, waits: tuple[float, float] = (0.0, 0.0)) -> LatencyBudget:
    """The budget of playing live in blocks of so many samples; `waits` as for `rehearse`."""
    heard, taken = block_waits(budget.space, block)
    return evolve(budget, input=heard + waits[0] + IDLE, output=taken + waits[1], rho=RHO)


def measure_latency(
    player: Player,
    block: int,
    *,
    labels: Mapping[str, int],
    waits: tuple[float, float] = (0.0, 0.0),
    told: Mapping[str, Source] = NOT_TOLD,
) -> Rehearsal:
    """Play to noise, `block` samples at a time, after a few chunks that only warm up; the budget of playing live so.

    waits: what a sound device adds before the model hears and after it has played (s). told: as in `play`; following
    takes time.
    """
    clock, space = check_streams(player), player.tokenizer.space

    def pieces(frames: int) -> int:
        return -(-frames * space.hop // block)

    noise = np.random.default_rng(0).uniform(-0.1, 0.1, block * pieces(max(FRAMES, CHUNKS * clock.k)))
    sound = noise.astype(np.float32)
    warm = block * pieces(2 * clock.k + max(0, clock.t_f) + 8)
    play(player, sound[:warm], [block] * pieces(FRAMES), labels=labels, seed=0, session=0, told=told)
    played = play(player, sound, [block] * (len(sound) // block), labels=labels, seed=0, session=0, told=told)
    budget = live_budget(budget_of(clock, space, [part_times(played, clock)]), block, waits)
    came = np.asarray(played.frames) > 0
    return Rehearsal(budget, block, len(came), np.asarray(played.whole)[came if came.any() else ~came])
