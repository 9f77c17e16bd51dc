"""The latency budget of a model on this machine: measured times against the slack of its clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accomp.core.clock import Clock, LatencyBudget, block_waits
from accomp.core.runs.run import Played
from accomp.core.types import TokenSpace


def budget_of(
    clock: Clock, space: TokenSpace, times: Sequence[Mapping[str, float]], *, piece: float = 0.0
) -> LatencyBudget:
    """Make the budget from `part_times` of one or more recordings: the maximum of each part.

    Input that comes early in a `piece` (s) waits for its end.
    """
    worst = {name: max(one[name] for one in times) for name in times[0]}
    wait = block_waits(space, round(piece * space.sample_rate))[0] if piece else 0.0
    return LatencyBudget(clock, space, **worst, input=wait)


def as_records(budget: LatencyBudget) -> list[dict[str, Any]]:
    """Lines of a budget for people: {"name", "ms"}."""
    space, frame = budget.space, budget.frame
    later = space.levels - 1
    delay = {} if space.continuous else {f"delay between codebooks ({later} frames)": later * frame}
    lines = {
        **delay,
        "codec lookahead and delay": (space.lookahead + space.delay) / space.sample_rate,
        "wait for the end of a piece": budget.input,
        "wait for the beginning of the next piece": budget.output,
        "encode a frame": budget.encode,
        "generate" if budget.clock.k == 1 else f"generate a chunk of {budget.clock.k} frames": budget.first,
        "decode a frame": budget.decode,
        "jitter (99.9th percentile over the median)": budget.jitter,
        "needed": budget.required,
        f"left by t_f = {budget.clock.t_f} frames": budget.available,
    }
    return [{"name": name, "ms": 1000 * s} for name, s in lines.items() if s or not name.startswith("wait")]


def step_times(played: Played, clock: Clock) -> np.ndarray:
    """Time of each k frames (s), of input that came frame by frame; a rest of less than k counts only if alone."""
    steps = max(1, len(played.whole) // clock.k)
    return np.array([sum(played.whole[clock.k * step : clock.k * (step + 1)]) for step in range(steps)])


def part_times(played: Played, clock: Clock) -> dict[str, float]:
    """Parts of a LatencyBudget, `encode`, `decode`, `first`, `chunk` (s), for any block sizes of the input.

    `jitter`: excess of the slowest block in a thousand over the median, among blocks with output.
    """
    whole, encode, decode = (np.asarray(times) for times in (played.whole, played.encode, played.decode))
    tokens = np.maximum(whole - encode - decode, 0.0)
    frames = np.asarray(played.frames)
    busy = frames > 0 if frames.any() else frames == 0
    chunks = np.maximum(1, frames / clock.k)
    total = max(1, played.codes.shape[1])
    return {
        "encode": float(encode.sum() / total),
        "decode": float(decode.sum() / total),
        "first": float(np.median((tokens / chunks)[busy])),
        "chunk": float(tokens.sum() / total) * clock.k,
        "jitter": float(np.quantile(whole[busy], 0.999) - np.median(whole[busy])),
    }
