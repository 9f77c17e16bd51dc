"""Findings of the papers, checked on the compared models: each claim with the differences behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from accomp.core.comparison.entries import Entry, anchor_of, headlines
from accomp.core.evaluation.statistics import interval
from accomp.core.pages.claims import Claim

AHEAD, FAR, BEHIND = -0.4, -1.0, 0.4
"""Seconds of t_f: predicting ahead, far ahead, and looking ahead."""


def findings(entries: Sequence[Entry], rng: np.random.Generator) -> list[Claim]:
    """Return, for every metric with both anchors, the findings of arXiv 2510.22105, section 5.

    A claim is decided where the whole interval of its difference lies on one side.
    """
    found = []
    for metric, number in headlines(entries):
        true, random = (_anchor(entries, name, metric, number) for name in ("true_stem", "random_pairing"))
        if true is None or random is None:
            continue
        sign = 1.0 if true > random else -1.0  # towards the true stem is better
        found += [
            finding
            for finding in (
                _looking_ahead_helps(entries, metric, number, sign, rng),
                _far_ahead_is_chance(entries, metric, number, rng),
            )
            if finding is not None
        ]
    return found


def _looking_ahead_helps(
    entries: Sequence[Entry], metric: str, number: str, sign: float, rng: np.random.Generator
) -> Claim | None:
    late = _mean_of(entries, lambda t_f: t_f >= BEHIND, metric, number)
    early = _mean_of(entries, lambda t_f: t_f <= AHEAD, metric, number)
    if not late or not early:
        return None
    text, low, high = _compared(late, early, sign, rng)
    holds = None if low is None or high is None or low <= 0 <= high else low > 0
    return Claim(f"{number} is better for t_f >= {BEHIND:g} s than for t_f <= {AHEAD:g} s", holds, text)


def _far_ahead_is_chance(entries: Sequence[Entry], metric: str, number: str, rng: np.random.Generator) -> Claim | None:
    far = _mean_of(entries, lambda t_f: t_f <= FAR, metric, number)
    pairing = anchor_of(entries, "random_pairing")
    random = pairing.clips(metric, number) if pairing else {}
    if not far or not random:
        return None
    text, low, high = _compared(far, random, 1.0, rng)
    holds = None if low is None or high is None else low <= 0 <= high
    return Claim(f"{number} of t_f <= {FAR:g} s cannot be told from random pairing", holds, text)


def _mean_of(entries: Sequence[Entry], wanted: Callable[[float], bool], metric: str, number: str) -> dict[str, float]:
    """Clip -> mean over the plain streaming models with a `wanted` t_f, for the clips that all of them have."""
    tables = [
        clips
        for entry in entries
        if entry.kind == "streaming" and not entry.variant and entry.t_f is not None and wanted(entry.t_f)
        if (clips := entry.clips(metric, number))
    ]
    common = set.intersection(*(set(clips) for clips in tables)) if tables else set()
    return {clip: float(np.mean([clips[clip] for clips in tables])) for clip in sorted(common)}


def _compared(
    a: dict[str, float], b: dict[str, float], sign: float, rng: np.random.Generator
) -> tuple[str, float | None, float | None]:
    """(text, low, high) of sign * (a - b) over the clips that both have."""
    common = sorted(a.keys() & b.keys())
    values = np.array([sign * (a[clip] - b[clip]) for clip in common])
    if not common:
        return "no clip was judged on both sides", None, None
    low, high = interval(values, rng)
    means = [float(np.mean([side[clip] for clip in common])) for side in (a, b)]
    text = f"{means[0]:.3f} against {means[1]:.3f} on {len(common)} clips"
    return (text if low is None else f"{text}; difference {values.mean():+.3f} [{low:+.3f}, {high:+.3f}]"), low, high


def _anchor(entries: Sequence[Entry], name: str, metric: str, number: str) -> float | None:
    entry = anchor_of(entries, name)
    value = entry.number(metric, number) if entry else None
    return None if value is None else float(value["value"])
